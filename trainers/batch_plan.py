"""Batch arithmetic of a GRPO-style run, before anything is loaded.

Symbols: b = per_device_train_batch_size, W = num_processes, S = steps_per_generation,
A = gradient_accumulation_steps, mu = num_iterations, G = num_generations (leaves per prompt).

    rows of a rollout batch      b W S          prompts of a rollout batch     b W S / G
    updates per rollout batch    S mu / A       a group is whole on a rank     iff (b S) % G == 0

TRL computes log-probs at rollout time only if A % (S mu) != 0; without them every ratio is 1 in the
only update, and no clip rule can act.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

TRAINER_DEFAULTS: Mapping[str, Any] = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "steps_per_generation": None,
    "num_iterations": 1,
    "max_steps": -1,
    "num_train_epochs": 3.0,
}
"""What transformers and TRL use when a recipe does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """What a run will do per rollout batch, per epoch and in total.

    Example: b=8, W=4, S=32, A=2, mu=1, G=16 gives 1024 rows of 64 prompts and 16 updates per
    rollout batch.
    """

    per_device_train_batch_size: int
    """Rows of one forward on one process (b)."""
    num_processes: int
    """Processes (W)."""
    steps_per_generation: int
    """Forwards per rollout batch and process (S)."""
    gradient_accumulation_steps: int
    """Forwards per optimizer update (A)."""
    num_iterations: int
    """Passes over a rollout batch (mu)."""
    num_generations: int
    """Responses per prompt (G), the width of a rollout tree."""
    num_prompts: int
    """Prompts of the training data."""
    max_steps: int = -1
    """Optimizer updates of the run; -1 means `num_train_epochs`."""
    num_train_epochs: float = 1.0
    """Passes over the data, if `max_steps` is -1."""

    @classmethod
    def from_trainer(
        cls,
        trainer: Mapping[str, Any],  # checked arguments of TRL's GRPOConfig
        *,
        num_processes: int,
        num_generations: int,
        num_prompts: int,
    ) -> BatchPlan:
        """Make a plan from the trainer section; keys that are not given have TRL's defaults."""
        given = {**TRAINER_DEFAULTS, **trainer}
        accumulation = given["gradient_accumulation_steps"]
        return cls(
            per_device_train_batch_size=given["per_device_train_batch_size"],
            num_processes=num_processes,
            steps_per_generation=given["steps_per_generation"] or accumulation,
            gradient_accumulation_steps=accumulation,
            num_iterations=given["num_iterations"],
            num_generations=num_generations,
            num_prompts=num_prompts,
            max_steps=given["max_steps"],
            num_train_epochs=given["num_train_epochs"],
        )

    @property
    def rows(self) -> int:
        """Rows of a rollout batch over all processes."""
        return self.per_device_train_batch_size * self.num_processes * self.steps_per_generation

    @property
    def rows_per_process(self) -> int:
        """Rows of a rollout batch on one process."""
        return self.per_device_train_batch_size * self.steps_per_generation

    @property
    def prompts_per_rollout(self) -> int:
        """Distinct prompts of a rollout batch."""
        return self.rows // self.num_generations

    @property
    def prompts_per_process(self) -> int:
        """Prompts of a rollout batch on one process, if groups are whole."""
        return self.rows_per_process // self.num_generations

    @property
    def updates_per_rollout(self) -> Fraction:
        """Optimizer updates per rollout batch; below 1 if one update spans several."""
        return Fraction(
            self.steps_per_generation * self.num_iterations, self.gradient_accumulation_steps
        )

    @property
    def groups_are_whole(self) -> bool:
        """Whether all responses of a prompt are made by one process."""
        return self.rows_per_process % self.num_generations == 0

    @property
    def has_old_logprobs(self) -> bool:
        """Whether TRL computes log-probs at rollout time."""
        passes = self.steps_per_generation * self.num_iterations
        return self.gradient_accumulation_steps % passes != 0

    @property
    def rollouts_per_epoch(self) -> int:
        """Rollout batches per pass over the data; prompts that do not fill the last are left out."""
        return self.num_prompts // self.prompts_per_rollout

    @property
    def num_updates(self) -> int:
        """Optimizer updates of the whole run."""
        if self.max_steps > 0:
            return self.max_steps
        updates_per_epoch = math.ceil(self.rollouts_per_epoch * self.updates_per_rollout)
        return math.ceil(self.num_train_epochs * updates_per_epoch)

    @property
    def num_rollouts(self) -> int:
        """Rollout batches of the whole run."""
        return math.ceil(self.num_updates / self.updates_per_rollout)

    @property
    def visits_per_prompt(self) -> float:
        """How often a prompt is answered in the whole run, on average over the data."""
        return self.num_rollouts * self.prompts_per_rollout / self.num_prompts

    def check(self) -> None:
        """Refuse settings with which the run would fail later, or do something else than asked.

        Raises:
            ValueError: names both numbers and a value that works.
        """
        self._check_ranges()
        self._check_groups()
        if self.num_prompts < self.prompts_per_rollout:
            raise ValueError(
                f"the data holds num_prompts={self.num_prompts}, fewer than the "
                f"{self.prompts_per_rollout} prompts of one rollout batch, so nothing would be "
                "trained; lower trainer.steps_per_generation or trainer.per_device_train_batch_size, "
                "or use more data"
            )

    def warnings(self) -> list[str]:
        """Settings that work but switch something off."""
        found = []
        if not self.has_old_logprobs:
            found.append(
                f"{_number(self.updates_per_rollout)} update(s) per rollout batch: all ratios are 1 "
                "and every clip rule is inert; raise trainer.steps_per_generation above "
                f"{Fraction(self.gradient_accumulation_steps, self.num_iterations)} to let it act"
            )
        if self.num_rollouts <= self.rollouts_per_epoch:
            found.append(
                "no prompt comes back: smoothed advantages (SAS) equal those of GRPO; train more than "
                f"{self.rollouts_per_epoch} rollout batches or use less data to let them act"
            )
        return found

    def describe(self) -> str:
        """The plan as aligned lines, warnings last."""
        total = f"{self.num_updates} updates, {self.num_rollouts} rollout batches"
        lines = {
            "rows per rollout batch": f"{self.rows} = {self.per_device_train_batch_size} rows x "
            f"{self.num_processes} processes x {self.steps_per_generation} steps",
            "prompts per rollout batch": f"{self.prompts_per_rollout} x {self.num_generations} responses",
            "updates per rollout batch": _number(self.updates_per_rollout),
            "rollout batches per epoch": f"{self.rollouts_per_epoch} of {self.num_prompts} prompts",
            "whole run": total,
            "visits per prompt": f"{self.visits_per_prompt:.2f}",
            "log-probs at rollout time": "computed" if self.has_old_logprobs else "not needed",
            "groups whole on a process": "yes" if self.groups_are_whole else "no",
        }
        table = [f"{name:<27}{value}" for name, value in lines.items()]
        return "\n".join(table + [f"warning: {text}" for text in self.warnings()])

    def _check_ranges(self) -> None:
        if self.num_generations < 2:
            raise ValueError(
                f"rollout.width={self.num_generations} leaves nothing to compare; use at least 2"
            )
        for name in (
            "per_device_train_batch_size",
            "steps_per_generation",
            "gradient_accumulation_steps",
            "num_iterations",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"trainer.{name}={getattr(self, name)} must be at least 1")

    def _check_groups(self) -> None:
        if self.rows % self.num_generations:
            problem = f"the {self.rows} rows of a rollout batch are not a multiple of"
        elif not self.groups_are_whole:
            problem = f"the {self.rows_per_process} rows of a process split the groups of"
        else:
            return
        raise ValueError(
            f"{problem} rollout.width={self.num_generations}; "
            f"use trainer.steps_per_generation={self._whole_steps()} "
            f"(now {self.steps_per_generation}) or another per_device_train_batch_size "
            f"(now {self.per_device_train_batch_size})"
        )

    def _whole_steps(self) -> int:
        """The smallest steps_per_generation, not below the present one, that keeps groups whole."""
        unit = self.num_generations // math.gcd(
            self.per_device_train_batch_size, self.num_generations
        )
        return math.ceil(self.steps_per_generation / unit) * unit


def _number(value: Fraction) -> str:
    return f"{float(value):g}"
