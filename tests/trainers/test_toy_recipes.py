"""The small SQL and shopping recipes run: dry, and four real steps each."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainers import build
from trainers.launch import LaunchOptions
from trainers.launch_checks import settle_device
from trainers.monitoring.metrics_file import FILE, read_metrics
from trainers.recipe import RawRecipe, read_recipe
from trainers.training_run import FINAL

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ("toy_dcpo_sql", "toy_treepo_sql_agent", "toy_treepo_webshop")
SHORT = (
    "trainer.max_steps=4",
    'trainer.save_strategy="no"',
    "evaluation.num_prompts=8",
    "evaluation.k=2",
    "evaluation.every_steps=0",
    "logging.report_to=[none]",
)


def recipe(name: str, folder: Path) -> RawRecipe:
    given = (*SHORT, f"logging.output_dir={folder}")
    return settle_device(read_recipe(ROOT / "recipes" / f"{name}.yaml", given), {})


@pytest.mark.parametrize("name", RECIPES)
def test_a_toy_recipe_shows_its_plan_without_training(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build.run(recipe(name, tmp_path), LaunchOptions(dry_run=True))
    assert "16 x 8 responses" in capsys.readouterr().out
    assert not (tmp_path / FINAL).exists()


@pytest.mark.parametrize("name", RECIPES)
def test_a_toy_recipe_trains_four_steps(name: str, tmp_path: Path) -> None:
    build.run(recipe(name, tmp_path), LaunchOptions())
    rows = [row for row in read_metrics(tmp_path / FILE) if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all(0 < row["grad_norm"] < 50 for row in rows)
    assert rows[0]["policy/engine_mismatch_max"] < 1e-4
    assert 0.1 < rows[0]["reward"] < 1.0
    has_turns = name != "toy_dcpo_sql"
    assert ("rollout/turns_mean" in rows[0]) is has_turns
    if has_turns:
        assert rows[0]["rollout/finish_environment_failed_frac"] == 0
        assert rows[0]["rollout/observation_tokens"] > 0
    assert (tmp_path / FINAL).is_dir()
