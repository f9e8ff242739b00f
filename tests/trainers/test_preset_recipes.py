"""The preset recipes run: dry, and four real steps each, with the algorithm that their name says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainers import build
from trainers.launch import LaunchOptions
from trainers.launch_checks import settle_device
from trainers.monitoring.metrics_file import FILE, read_metrics
from trainers.recipe import RawRecipe, read_recipe
from trainers.training_run import FINAL

ROOT = Path(__file__).resolve().parents[2]
ALGORITHMS: dict[str, tuple[str, str, str, bool, int]] = {
    # clip, advantage, aggregation, tree rollouts, rounds of dynamic sampling
    "grpo": ("fixed", "group", "sequence_mean", False, 0),
    "dr_grpo": ("fixed", "group", "constant", False, 0),
    "dapo": ("fixed", "group", "token_mean", False, 2),
    "gspo": ("gspo", "group", "sequence_mean", False, 0),
    "cispo": ("cispo", "group", "token_mean", False, 0),
    "treepo": ("fixed", "tree", "token_mean", True, 2),
    "treepo_dac": ("dac", "tree", "token_mean", True, 2),
    "dcpo_tree": ("dac", "dcpo_tree", "token_mean", True, 0),
    "tree_grpo_root": ("fixed", "group", "token_mean", True, 2),
}
SHORT = (
    "trainer.max_steps=4",
    'trainer.save_strategy="no"',
    "evaluation.num_prompts=0",
    "logging.report_to=[none]",
    "logging.rollout_samples_every=2",
)


def recipe(name: str, folder: Path, *overrides: str) -> RawRecipe:
    given = (*SHORT, f"logging.output_dir={folder}", *overrides)
    return settle_device(read_recipe(ROOT / "recipes" / f"{name}.yaml", given), {})


def run(name: str, folder: Path, *overrides: str) -> list[dict[str, Any]]:
    build.run(recipe(name, folder, *overrides), LaunchOptions())
    return read_metrics(folder / FILE)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_preset_is_the_algorithm_of_its_name(name: str, tmp_path: Path) -> None:
    found = build.decode_recipe(recipe(name, tmp_path))
    clip, advantage, aggregation, is_tree, rounds = ALGORITHMS[name]
    trainer = found.trainer
    assert (trainer["clip"], trainer["advantage"], trainer["aggregation"]) == (
        clip,
        advantage,
        aggregation,
    )
    assert found.rollout.is_flat is not is_tree
    assert trainer.get("dynamic_sampling_rounds", 0) == rounds


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_preset_shows_its_plan_without_training(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build.run(recipe(name, tmp_path), LaunchOptions(dry_run=True))
    assert "16 x 8 responses" in capsys.readouterr().out
    assert not (tmp_path / FINAL).exists()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_preset_trains_four_steps(name: str, tmp_path: Path) -> None:
    rows = [row for row in run(name, tmp_path) if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all(0 < row["grad_norm"] < 50 for row in rows)
    assert (tmp_path / FINAL).is_dir()
    first, (_, _, _, is_tree, rounds) = rows[0], ALGORITHMS[name]
    assert (first["rollout/groups_per_leaf"] > 1) is is_tree
    assert ("rollout/oversampling" in first) is (rounds > 0)
    assert first["policy/engine_mismatch_max"] < 1e-4
