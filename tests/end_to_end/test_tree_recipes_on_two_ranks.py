"""Two processes grow the trees that one grows: same prompts, same replacements, same advantages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainers.monitoring.metrics_file import read_metrics

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
KEYS = (
    "rollout/distinct_tokens",
    "rollout/fallback_paths_per_prompt",
    "rollout/generated_tokens",
    "tree/leaf_reward_mean",
    "tree/inverse_fork_reward_mean",
    "tree/uniform_frac_depth_0",
    "tree/uniform_frac_depth_1",
    "tree/response_tokens_better",
    "reward",
    "reward/rur",
)
ONLY: dict[str, tuple[str, ...]] = {
    "treepo": ("rollout/oversampling", "rollout/dynamic_rounds", "rollout/kept_uniform_prompts"),
    "dcpo_tree": ("reward/mean_visits", "reward/uniform_frac", "reward/store_size"),
}


def first_row(command: list[str], recipe: str, folder: Path, rows: int) -> dict[str, float]:
    settings = (
        f"trainer.per_device_train_batch_size={rows}",
        "trainer.max_steps=4",
        'trainer.save_strategy="no"',
        "trainer.loss_leaf_weighting=inverse_fork",
        "evaluation.num_prompts=0",
        "logging.report_to=[none]",
    )
    overrides = [part for setting in settings for part in ("--set", setting)]
    result = subprocess.run(
        [*command, f"recipes/{recipe}.yaml", "--output_dir", str(folder), *overrides],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return next(row for row in read_metrics(folder / "metrics.jsonl") if row["step"] == 1)


@pytest.mark.distributed
@pytest.mark.parametrize("recipe", ONLY)
def test_two_processes_see_what_one_sees(recipe: str, tmp_path: Path) -> None:
    two = [str(BIN / "accelerate"), "launch", "--config_file", "accelerate_configs/cpu_2.yaml"]
    alone = first_row([sys.executable], recipe, tmp_path / "one", 32)
    shared = first_row(two, recipe, tmp_path / "two", 16)
    for key in KEYS + ONLY[recipe]:
        assert shared[key] == pytest.approx(alone[key], rel=1e-6), key
