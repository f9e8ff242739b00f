"""Measured cost of a forward: t = c0 + c_token * tokens + c_context * sum of context lengths, in seconds."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """Seconds of one forward of one model on this device."""

    base_s: float
    """c0: launch and weight traffic."""
    token_s: float
    """c_token: per token in the forward."""
    context_s: float
    """c_context: per context token of the sequences in the forward."""

    def seconds(self, num_tokens: float, context_tokens: float) -> float:
        """Return the time of a forward over `num_tokens` tokens with that much context in sum."""
        return self.base_s + self.token_s * num_tokens + self.context_s * context_tokens


@dataclass(slots=True, eq=False)
class CostMeter:
    """Fits a `StepCost` to the most recent measured forwards by least squares."""

    window: int = 256
    """Forwards that are remembered."""
    _steps: deque[tuple[float, float, float]] = field(init=False)

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.window < 3:
            raise ValueError(f"window={self.window} must be at least 3, one per coefficient")
        self._steps = deque(maxlen=self.window)

    def observe(self, num_tokens: float, context_tokens: float, seconds: float) -> None:
        """Remember one measured forward."""
        self._steps.append((num_tokens, context_tokens, seconds))

    def fit(self) -> StepCost | None:
        """Return the fit; None before three forwards.

        A coefficient that the measurements leave open or make negative is 0.
        """
        if len(self._steps) < 3:
            return None
        tokens, contexts, seconds = np.asarray(self._steps, dtype=np.float64).T
        columns = np.stack([np.ones_like(tokens), tokens, contexts], axis=1)
        return StepCost(**dict(zip(_NAMES, _nonnegative_fit(columns, seconds), strict=True)))


_NAMES = ("base_s", "token_s", "context_s")


def _nonnegative_fit(columns: np.ndarray, seconds: np.ndarray) -> list[float]:
    """Least squares over the columns that can stay; drops the most negative one until none is."""
    active = [i for i in range(columns.shape[1]) if i == 0 or np.ptp(columns[:, i]) > 0.0]
    while active:
        scale = columns[:, active].max(axis=0)
        found = np.linalg.lstsq(columns[:, active] / scale, seconds, rcond=None)[0] / scale
        if (found >= 0.0).all():
            values = dict(zip(active, found.tolist(), strict=True))
            return [values.get(i, 0.0) for i in range(columns.shape[1])]
        active.pop(int(np.argmin(found * scale)))
    return [0.0] * columns.shape[1]
