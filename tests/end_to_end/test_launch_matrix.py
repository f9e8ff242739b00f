"""Every documented way to start the default recipe trains: real processes, few steps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForCausalLM

from trainers.monitoring.metrics_file import read_metrics

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
RECIPE = "recipes/dcpo.yaml"
SHORT = {
    "trainer.max_steps": "4",
    "trainer.save_steps": "4",
    "evaluation.num_prompts": "4",
    "evaluation.k": "2",
    "evaluation.every_steps": "0",
    "logging.report_to": "[none]",
}
TWO = ["launch", "--config_file", "accelerate_configs/cpu_2.yaml"]
COMMANDS = {
    "accelerate": [str(BIN / "accelerate"), "launch", RECIPE],
    "accelerate_module": [str(BIN / "accelerate"), "launch", "-m", "trainers", RECIPE],
    "cpu_1": [
        str(BIN / "accelerate"),
        "launch",
        "--config_file",
        "accelerate_configs/cpu_1.yaml",
        RECIPE,
    ],
    "ramify": [str(BIN / "ramify"), "train", RECIPE],
    "python": [sys.executable, RECIPE],
}
DISTRIBUTED = {
    "cpu_2": [str(BIN / "accelerate"), *TWO, RECIPE],
    "torchrun": [str(BIN / "torchrun"), "--nproc_per_node", "2", "--master_port", "29611", RECIPE],
    "zero2": [
        str(BIN / "accelerate"),
        "launch",
        "--config_file",
        "accelerate_configs/zero2.yaml",
        "--num_processes",
        "2",
        RECIPE,
    ],
    "zero3": [
        str(BIN / "accelerate"),
        "launch",
        "--config_file",
        "accelerate_configs/zero3.yaml",
        "--num_processes",
        "2",
        RECIPE,
    ],
}


def short_run(command: list[str], output_dir: Path) -> subprocess.CompletedProcess[str]:
    """Run a command with the short settings."""
    overrides = [part for key, value in SHORT.items() for part in ("--set", f"{key}={value}")]
    return subprocess.run(
        [*command, "--output_dir", str(output_dir), *overrides],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def check_run(run_dir: Path) -> None:
    """The output folder holds everything that the README promises."""
    rows = read_metrics(run_dir / "metrics.jsonl")
    assert max(row["step"] for row in rows) == 4
    assert max(row.get("policy/engine_mismatch_max", 0.0) for row in rows) < 1e-4
    assert all(
        (run_dir / name).exists()
        for name in (
            "recipe.yaml",
            "learning_curve.png",
            "evaluation.json",
            "checkpoint-4",
            "rollouts",
        )
    )
    assert yaml.safe_load((run_dir / "recipe.yaml").read_text())["trainer"]["max_steps"] == 4
    AutoModelForCausalLM.from_pretrained(run_dir / "final")


@pytest.mark.parametrize("name", COMMANDS)
def test_one_process(name: str, tmp_path: Path) -> None:
    result = short_run(COMMANDS[name], tmp_path / "run")
    assert result.returncode == 0, result.stderr[-3000:]
    check_run(tmp_path / "run")


@pytest.mark.distributed
@pytest.mark.parametrize("name", DISTRIBUTED)
def test_two_processes(name: str, tmp_path: Path) -> None:
    result = short_run(DISTRIBUTED[name], tmp_path / "run")
    assert result.returncode == 0, result.stderr[-3000:]
    assert "2 process(es)" in result.stdout
    check_run(tmp_path / "run")


def test_the_resolved_recipe_repeats_the_run(tmp_path: Path) -> None:
    first = short_run(COMMANDS["ramify"], tmp_path / "a")
    assert first.returncode == 0, first.stderr[-3000:]
    command = [str(BIN / "ramify"), "train", str(tmp_path / "a" / "recipe.yaml")]
    again = subprocess.run(
        [*command, "--output_dir", str(tmp_path / "b")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert again.returncode == 0, again.stderr[-3000:]
    keys = ("loss", "reward", "grad_norm")
    one, two = (read_metrics(tmp_path / name / "metrics.jsonl") for name in "ab")
    assert [[r.get(k) for k in keys] for r in one] == [[r.get(k) for k in keys] for r in two]
