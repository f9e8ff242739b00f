"""Sections `logging` and `evaluation` of a recipe, and one entry of the list `rewards`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Tracker = Literal["wandb", "tensorboard", "mlflow", "trackio", "none"]


@dataclass(slots=True, kw_only=True)
class LoggingConfig:
    """Where a run writes and what it shows."""

    output_dir: str
    """Folder of the run, relative to the current directory; --output_dir overrides it."""
    report_to: list[Tracker] = field(default_factory=lambda: ["none"])
    """Trackers. wandb runs offline unless an account is logged in."""
    run_name: str | None = None
    """Name at the tracker; default: the name of the output folder."""
    project: str = "ramify"
    """Project at the tracker."""
    rollout_samples_every: int = 20
    """Write rollout trees as text about every so many optimizer steps; 0 = never."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.rollout_samples_every < 0:
            raise ValueError(
                f"logging.rollout_samples_every={self.rollout_samples_every} is negative; 0 = never"
            )
        if "none" in self.report_to and len(self.report_to) > 1:
            raise ValueError(f"logging.report_to={self.report_to}: 'none' excludes the others")


@dataclass(slots=True, kw_only=True)
class EvaluationConfig:
    """Evaluation on held-out prompts: before, during and after training."""

    num_prompts: int = 256
    """Held-out prompts used; 0 turns evaluation off."""
    k: int = 4
    """Samples per prompt besides the greedy answer."""
    every_steps: int = 0
    """Also evaluate every so many optimizer steps; 0 = only before and after."""
    temperature: float = 1.0
    """Temperature of the k samples."""
    seed: int = 1234
    """Seed of the samples; the same in every evaluation, so that curves are comparable."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.num_prompts < 0 or self.every_steps < 0:
            raise ValueError(
                "evaluation.num_prompts and evaluation.every_steps must not be negative"
            )
        if self.k < 1:
            raise ValueError(f"evaluation.k={self.k} must be at least 1")
        if self.temperature <= 0:
            raise ValueError(
                f"evaluation.temperature={self.temperature} must be positive; Avg@1 is greedy already"
            )


@dataclass(slots=True, kw_only=True)
class RewardEntry:
    """One entry of the section `rewards`."""

    type: str
    """Module of rewards/ (math_answer) or pkg.mod:Class."""
    weight: float = 1.0
    """Weight in the sum."""
    settings: dict[str, Any] = field(default_factory=dict)  # fields of the reward's own Config
    """Configuration of the reward, checked against its Config class."""
