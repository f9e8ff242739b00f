"""Branching by log-prob with a temperature that falls over the run (TreePO's schedule, 5 -> 1).

Early in training the split is nearly even, later it follows the log-probs. The paper found the
schedule no better than even splitting; `even` stays the default.
"""

from __future__ import annotations

from dataclasses import dataclass

from rollout.branching.logprob import (
    Favour,
    LogprobBranching,
    LogprobBranchingConfig,
    Reduction,
    Scope,
    check_choices,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledLogprobBranchingConfig:
    """Which paths get more children, and how the temperature moves."""

    favour: Favour = "low"
    """low: unlikely paths (exploration); high: likely ones."""
    temperature_start: float = 5.0
    """T at the start of the run, positive."""
    temperature_end: float = 1.0
    """T at its end, positive; in between linear in the share of the run that is done."""
    reduction: Reduction = "mean"
    """Mean or sum of the token log-probs."""
    scope: Scope = "segment"
    """segment: the last segment; path: all sampled tokens of the path."""

    def __post_init__(self) -> None:
        """Check the ranges and the choices."""
        check_choices(favour=self.favour, reduction=self.reduction, scope=self.scope)
        if not (self.temperature_start > 0 and self.temperature_end > 0):
            raise ValueError(
                f"temperature_start={self.temperature_start} and "
                f"temperature_end={self.temperature_end} must be positive; TreePO uses 5 and 1"
            )


class ScheduledLogprobBranching(LogprobBranching):
    """`LogprobBranching` at the temperature of this moment of the run."""

    def __init__(
        self, branching: int, config: ScheduledLogprobBranchingConfig, progress: float
    ) -> None:
        fixed = LogprobBranchingConfig(
            favour=config.favour,
            temperature=scheduled_temperature(config, progress),
            reduction=config.reduction,
            scope=config.scope,
        )
        super().__init__(branching, fixed)


def scheduled_temperature(config: ScheduledLogprobBranchingConfig, progress: float) -> float:
    """T after the share `progress` in [0, 1] of the run; with 5 and 1, progress 0.25 gives 4."""
    return config.temperature_start + progress * (config.temperature_end - config.temperature_start)


POLICY = ScheduledLogprobBranching
