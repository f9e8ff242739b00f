"""When the held-out prompts are asked: before the first step and every N steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class HeldOutEvaluation(TrainerCallback):
    """Evaluates inside the training loop, where DeepSpeed has already wrapped the policy.

    The last step is left out: the run evaluates after training anyway.
    """

    def __init__(
        self, *, before: Callable[[], object], during: Callable[[], object], every: int
    ) -> None:
        self.before = before
        self.during = during
        self.every = every

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # Trainer passes model, optimizer and more
    ) -> None:
        """Evaluate the starting policy; a resumed run did so already."""
        if state.global_step == 0:
            self.before()

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # Trainer passes model, optimizer and more
    ) -> None:
        """Evaluate when the step's turn has come."""
        is_last = state.global_step >= state.max_steps
        if self.every and not is_last and state.global_step % self.every == 0:
            self.during()
