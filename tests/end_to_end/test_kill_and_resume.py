"""SIGKILL between two steps, and SIGTERM: the resumed run is the uninterrupted one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from trainers.checkpointing import complete_checkpoints
from trainers.monitoring.metrics_file import read_metrics

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "trainer.max_steps": "24",
    "trainer.save_steps": "3",
    "trainer.save_total_limit": "2",
    "trainer.per_device_train_batch_size": "8",
    "evaluation.num_prompts": "4",
    "evaluation.k": "1",
    "evaluation.every_steps": "0",
    "logging.report_to": "[none]",
    "data.chain_sums.train_size": "8",
}
KEYS = ("loss", "reward", "grad_norm", "completions/mean_length", "reward/mean_visits")


def command(run_dir: Path, *more: str) -> list[str]:
    """`ramify train` with blocks of 4 updates and a checkpoint every 3: most are inside a block."""
    overrides = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    ramify = str(Path(sys.executable).parent / "ramify")
    return [ramify, "train", "recipes/dcpo.yaml", "--output_dir", str(run_dir), *overrides, *more]


def start(run_dir: Path, *more: str) -> subprocess.Popen[str]:
    """Start a run in the background."""
    return subprocess.Popen(
        command(run_dir, *more),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def wait_for_step(process: subprocess.Popen[str], run_dir: Path, step: int) -> None:
    """Return as soon as the metrics of a step are on disk."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        rows = read_metrics(run_dir / "metrics.jsonl")
        if any(row["step"] >= step for row in rows):
            return
        assert process.poll() is None, process.communicate()[0][-3000:]
        time.sleep(0.02)
    raise AssertionError(f"step {step} was not reached")


def curve(run_dir: Path) -> list[list[float | None]]:
    """The compared metrics of every step."""
    return [[row.get(key) for key in KEYS] for row in read_metrics(run_dir / "metrics.jsonl")]


def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    straight = start(tmp_path / "straight")
    output, _ = straight.communicate(timeout=300)
    assert straight.returncode == 0, output[-3000:]

    killed = start(tmp_path / "killed")
    wait_for_step(killed, tmp_path / "killed", 10)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    newest = complete_checkpoints(tmp_path / "killed")[-1]
    (tmp_path / "killed" / "checkpoint-99").mkdir()  # as an interrupted copy would leave it

    resumed = start(tmp_path / "killed", "--resume")
    output, _ = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, output[-3000:]
    assert f"resuming from {newest}" in output.replace("\n", " ")
    assert curve(tmp_path / "killed") == curve(tmp_path / "straight")
    one, two = (load_file(tmp_path / n / "final/model.safetensors") for n in ("straight", "killed"))
    assert all(torch.equal(one[name], two[name]) for name in one)

    again = start(tmp_path / "killed", "--resume")
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output[-3000:]
    assert "is complete: checkpoint-24 of 24 updates" in output
    assert complete_checkpoints(tmp_path / "killed")[-1].name == "checkpoint-24"


def test_sigterm_saves_at_once_and_says_how_to_resume(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    stopped = start(run_dir)
    wait_for_step(stopped, run_dir, 4)
    stopped.send_signal(signal.SIGTERM)
    output, _ = stopped.communicate(timeout=120)
    assert stopped.returncode == 0, output[-3000:]
    step = max(row["step"] for row in read_metrics(run_dir / "metrics.jsonl"))
    assert (run_dir / f"checkpoint-{int(step)}").is_dir()
    assert f"ramify train recipes/dcpo.yaml --output_dir {run_dir} --resume" in output.replace(
        "\n", ""
    )
    assert not (run_dir / "final").exists()


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    (run_dir / "final").mkdir(parents=True)
    result = subprocess.run(command(run_dir), cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert "already holds a run" in result.stderr
