"""The terminal: lines and a progress bar, on the main process only.

On a terminal one bar is redrawn; elsewhere (a log file, CI) a line appears about 20 times a run.
"""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

LINES_PER_RUN = 20


class Terminal:
    """Prints for people. Silent on every process but the main one."""

    def __init__(self, *, is_main: bool, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True, quiet=not is_main)

    def line(self, text: str = "") -> None:
        """Print one line, taken literally."""
        self.console.print(text, markup=False)

    def block(self, title: str, lines: list[str]) -> None:
        """Print a title and indented lines."""
        self.line(title)
        for text in lines:
            self.line(f"  {text}")


class ProgressReport(TrainerCallback):
    """A bar with step, reward, response length, sampled tokens per second and the time left."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self._progress: Progress | None = None
        self._task: Any = None  # rich's TaskID
        self._started = 0.0
        self._first_step = 0
        self._text = ""
        self._next_line = 0

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # Trainer passes model, optimizer and more
    ) -> None:
        """Start the bar."""
        self._started, self._first_step = time.monotonic(), state.global_step
        if not self.terminal.console.is_terminal or self.terminal.console.quiet:
            return
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=self.terminal.console,
        )
        self._progress.start()
        self._task = self._progress.add_task(
            "training", total=state.max_steps, completed=state.global_step, text=""
        )

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,  # metric values
        **kwargs: Any,  # Trainer passes model, optimizer and more
    ) -> None:
        """Remember the newest figures of a rollout; without a bar print them from time to time."""
        if logs and logs.get("reward") is not None:
            self._text = (
                f"reward {logs['reward']:+.3f}  length {logs['completions/mean_length']:.0f}  "
                f"{logs.get('rollout/tokens_per_s', 0.0):.0f} tokens/s"
            )
        if (
            self._progress is None
            and logs
            and "loss" in logs
            and state.global_step >= self._next_line
        ):
            self._next_line = state.global_step + max(1, state.max_steps // LINES_PER_RUN)
            self.terminal.line(
                f"step {state.global_step}/{state.max_steps}  {self._text}  left {self._left(state)}"
            )

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # Trainer passes model, optimizer and more
    ) -> None:
        """Move the bar."""
        if self._progress is not None:
            self._progress.update(self._task, completed=state.global_step, text=self._text)

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # Trainer passes model, optimizer and more
    ) -> None:
        """Stop the bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _left(self, state: TrainerState) -> str:
        done = max(1, state.global_step - self._first_step)
        seconds = (time.monotonic() - self._started) / done * (state.max_steps - state.global_step)
        return f"{int(seconds // 60)}:{int(seconds % 60):02d}"
