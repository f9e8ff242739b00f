"""metrics.jsonl: one JSON object per logged step, appended and flushed at once."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainers.checkpointing import write_atomically
from trainers.monitoring.metrics_lines import FILE, read_metrics


class MetricsFile(TrainerCallback):
    """Appends every log entry; on resume, rows after the resumed step are dropped first."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / FILE

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # Trainer passes model, optimizer and more
    ) -> None:
        """Make the file agree with the step that training starts from."""
        if state.is_world_process_zero:
            step = state.global_step
            rows = [row for row in read_metrics(self.path) if 0 < step >= row["step"]]
            write_atomically(self.path, "".join(json.dumps(row) + "\n" for row in rows))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,  # metric values
        **kwargs: Any,  # Trainer passes model, optimizer and more
    ) -> None:
        """Append one row."""
        if not state.is_world_process_zero or not logs or "train_runtime" in logs:
            return
        row = {"step": state.global_step} | {
            documented_name(key): value for key, value in logs.items() if _is_number(value)
        }
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def documented_name(key: str) -> str:
    """Name of a metric in docs/metrics.md: trackers want eval_x, files and documents eval/x."""
    return f"eval/{key.removeprefix('eval_')}" if key.startswith("eval_") else key


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
