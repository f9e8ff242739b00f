"""Ctrl-C and SIGTERM: finish the optimizer step, save, say how to go on."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainers.monitoring.terminal import Terminal

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class GracefulStop(TrainerCallback):
    """Turns a signal into a checkpoint and a normal end; a second Ctrl-C ends at once.

    With several processes all of them agree after every step, since each may get the signal at
    another moment and a save is collective.
    """

    def __init__(self, terminal: Terminal, accelerator: Accelerator) -> None:
        self.terminal = terminal
        self.accelerator = accelerator
        self.was_stopped = False
        self._signalled = False
        self._previous: dict[signal.Signals, Any] = {}  # whatever handlers stood there

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # Trainer passes model, optimizer and more
    ) -> None:
        """Install the handlers."""
        self._previous = {number: signal.signal(number, self._handle) for number in SIGNALS}

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # Trainer passes model, optimizer and more
    ) -> None:
        """Ask for a save and the end of training once any process was signalled."""
        if self._any_signalled():
            self.was_stopped = True
            control.should_save = True
            control.should_training_stop = True

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # Trainer passes model, optimizer and more
    ) -> None:
        """Put the previous handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._signalled and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signalled = True
        self.terminal.line(
            f"{signal.Signals(number).name}: finishing this step, then saving "
            "(Ctrl-C again ends at once, without saving)"
        )

    def _any_signalled(self) -> bool:
        if self.accelerator.num_processes == 1:
            return self._signalled
        flag = torch.tensor(int(self._signalled), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, reduction="sum").item())
