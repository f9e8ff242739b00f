"""docs/metrics.md lists what runs emit: no key is missing there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig

from tests.tiny_policy import tiny_trainer
from trainers.evaluate import PromptOutcome, summarise
from trainers.monitoring.metrics_file import documented_name

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
LOOP_KEYS = {
    "total_flos",
    "train_runtime",
    "train_samples_per_second",
    "train_steps_per_second",
    "train_loss",
}


def documented() -> list[re.Pattern[str]]:
    """Patterns of all keys in the first column; <name> stands for any text."""
    first_cells = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line[:2] == "| "]
    keys = [key for cell in first_cells for key in re.findall(r"`([^`]+)`", cell)]
    parts = [[re.escape(part) for part in re.split(r"<\w+>", key)] for key in keys]
    return [re.compile(".+".join(part)) for part in parts]


def undocumented(keys: set[str]) -> list[str]:
    """Keys that no pattern matches."""
    patterns = documented()
    return sorted(key for key in keys if not any(p.fullmatch(key) for p in patterns))


@pytest.mark.parametrize("settings", [{}, {"advantage": "group", "clip": "fixed"}])
def test_every_training_metric_is_documented(
    tmp_path: Path, settings: dict[str, Any]
) -> None:  # fields of PolicyConfig
    trainer = tiny_trainer(
        tmp_path, max_steps=2, lora=LoraConfig(target_modules="all-linear"), beta=0.01, **settings
    )
    trainer.train()
    emitted = {documented_name(key) for row in trainer.state.log_history for key in row}
    assert len(emitted) > 40
    assert undocumented(emitted - LOOP_KEYS) == []


def test_every_evaluation_metric_is_documented() -> None:
    outcome = PromptOutcome(greedy_correct=True, correct=(True,), answers=("1",), num_tokens=3)
    assert undocumented(set(summarise([outcome]).metrics())) == []


def test_an_unknown_key_would_be_found() -> None:
    assert undocumented({"reward/no_such_key", "loss"}) == ["reward/no_such_key"]
