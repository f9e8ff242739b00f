"""A `PolicyConfig` for tests that need no trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainers.policy_config import PolicyConfig


def make_config(folder: Path, **given: Any) -> PolicyConfig:  # fields of any type
    """Four rows of one prompt a step, on the CPU."""
    return PolicyConfig(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        report_to="none",
        num_generations=4,
        per_device_train_batch_size=4,
        **given,
    )
