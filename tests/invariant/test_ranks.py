"""One process and two: the same trees, rewards, loss, gradient norm, store.

With one update per rollout batch the rows of an update are the same set whatever the number of
processes; sums run in another order, hence the tolerance of 1e-4 (relative) on loss and gradient.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainers.monitoring.metrics_file import read_metrics
from trainers.prompt_store import PromptStore

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SETTINGS = {
    "trainer.steps_per_generation": 2,
    "trainer.gradient_accumulation_steps": 2,
    "trainer.max_steps": 4,
    "trainer.save_steps": 4,
    "evaluation.num_prompts": 0,
    "logging.report_to": "[none]",
}


def run(command: list[str], run_dir: Path, rows: int) -> Path:
    """Train a few steps with `rows` rows per process and forward."""
    settings = SETTINGS | {"trainer.per_device_train_batch_size": rows}
    overrides = [part for k, v in settings.items() for part in ("--set", f"{k}={v}")]
    result = subprocess.run(
        [*command, "recipes/dcpo.yaml", "--output_dir", str(run_dir), *overrides],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return run_dir


@pytest.mark.distributed
def test_two_processes_equal_one(tmp_path: Path) -> None:
    config = ["--config_file", "accelerate_configs/cpu_2.yaml"]
    one = run([str(BIN / "ramify"), "train"], tmp_path / "one", 32)
    two = run([str(BIN / "accelerate"), "launch", *config], tmp_path / "two", 16)
    rows = [read_metrics(folder / "metrics.jsonl") for folder in (one, two)]
    for key in ("reward", "rollout/distinct_tokens", "reward/mean_visits"):
        assert [r.get(key) for r in rows[0]] == [r.get(key) for r in rows[1]], key
    for key in ("loss", "grad_norm", "policy/entropy"):
        pairs = [(a[key], b[key]) for a, b in zip(*rows, strict=True)]
        assert all(a == pytest.approx(b, rel=1e-4, abs=1e-5) for a, b in pairs), (key, pairs)
    stores = [PromptStore.load(f / "checkpoint-4" / "prompt_store.json") for f in (one, two)]
    assert stores[0].checksum() == stores[1].checksum()
