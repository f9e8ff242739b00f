"""Entropy-adaptive decoding (EAD, arXiv 2502.06833): a large model writes where the text is uncertain.

LOSSY by design: the text follows neither model's law. After each emitted token with entropy H_t (of the
*active* model's unfiltered softmax at temperature 1, nats) and rolling mean Hbar_t over the last w values,

    want LARGE if Hbar_t > threshold, else SMALL;  switch only if at least `min_run` tokens were emitted
    since the last switch

Each model keeps its own KV. A switch feeds the tokens that the newly active model has not seen in one
chunk (catch-up). Two costs are counted here: parameters active per emitted token, which is the published
figure, and parameters per *ingested* token, which includes the catch-up and is often no saving at all; the
real gain is that catch-up tokens are processed in parallel. Seconds are the caller's to measure.

Differences from the paper: hysteresis (`threshold_down`) is optional; the threshold can be picked by the
wanted share of the large model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np


class ModelSize(StrEnum):
    """Which of the two models."""

    SMALL = "small"
    """Active at the start and while the text is easy."""
    LARGE = "large"
    """Active after uncertain tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropyRouterConfig:
    """When the router switches."""

    threshold: float
    """tau in nats: above it the large model is wanted."""
    threshold_down: float | None = None
    """Go back to the small model only at or below this; None = `threshold`."""
    window: int = 8
    """w: values in the rolling mean."""
    min_run: int = 4
    """d: tokens between two switches."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.window < 1 or self.min_run < 1:
            raise ValueError(f"window={self.window} and min_run={self.min_run} must be at least 1")
        if self.threshold_down is not None and self.threshold_down > self.threshold:
            raise ValueError(
                f"threshold_down={self.threshold_down} is above threshold={self.threshold}; the "
                "router would switch back and forth"
            )


@dataclass(slots=True, eq=False)
class EntropyRouter:
    """The model that emits the next token of one request. Pure: it sees entropies only.

    Example:
        `router.active` emits a token; `router.emitted(entropy)` returns the model for the next one.
    """

    config: EntropyRouterConfig
    active: ModelSize = ModelSize.SMALL
    num_switches: int = 0
    _recent: deque[float] = field(init=False)
    _run: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Make the window."""
        self._recent = deque(maxlen=self.config.window)

    @property
    def rolling_entropy(self) -> float:
        """Mean of the last w entropies in nats (fewer at the start); 0 before the first."""
        return sum(self._recent) / len(self._recent) if self._recent else 0.0

    def emitted(self, entropy: float) -> ModelSize:
        """Take note of one emitted token and return the model for the next one.

        Args:
            entropy: Of the active model's unfiltered law at temperature 1, in nats.
        """
        self._recent.append(entropy)
        self._run += 1
        wanted = self._wanted()
        if wanted is not self.active and self._run >= self.config.min_run:
            self.active = wanted
            self.num_switches += 1
            self._run = 0
        return self.active

    def _wanted(self) -> ModelSize:
        bound = self.config.threshold
        if self.active is ModelSize.LARGE and self.config.threshold_down is not None:
            bound = self.config.threshold_down
        return ModelSize.LARGE if self.rolling_entropy > bound else ModelSize.SMALL


@dataclass(slots=True, eq=False)
class RoutingCosts:
    """Counts what two-model decoding of one request costs.

    Each model has a pointer to how many tokens it has ingested. To emit a token a model must have ingested
    everything before it: one token if it emitted the last one too, a chunk after a switch.
    """

    prompt_tokens: int
    emitted: dict[ModelSize, int] = field(default_factory=lambda: dict.fromkeys(ModelSize, 0))
    ingested: dict[ModelSize, int] = field(default_factory=lambda: dict.fromkeys(ModelSize, 0))
    catch_up_tokens: int = 0
    """Tokens fed at switches beyond the newest one; the prompt of the first model is not among them."""

    def missing(self, model: ModelSize) -> int:
        """Return how many tokens the model must be fed before it can emit the next one."""
        return self.prompt_tokens + self.num_emitted - self.ingested[model]

    def emit(self, model: ModelSize) -> None:
        """Count that `model` ingests what it lacks and emits one token."""
        missing = self.missing(model)
        if self.num_emitted:
            self.catch_up_tokens += missing - 1
        self.ingested[model] += missing
        self.emitted[model] += 1

    @property
    def num_emitted(self) -> int:
        """Tokens emitted by both."""
        return sum(self.emitted.values())

    @property
    def large_frac(self) -> float:
        """f_L: share of tokens emitted by the large model."""
        return self.emitted[ModelSize.LARGE] / self.num_emitted if self.num_emitted else 0.0

    def active_params(self, *, small: float, large: float) -> float:
        """Return C_param = f_L N_L + (1 - f_L) N_S: the published cost, without catch-up."""
        return active_params(self.large_frac, small=small, large=large)

    def flops_ratio(self, *, small: float, large: float) -> float:
        """Return sum of N * (tokens ingested) relative to the large model alone; may exceed 1."""
        alone = large * (self.prompt_tokens + max(0, self.num_emitted - 1))
        spent = large * self.ingested[ModelSize.LARGE] + small * self.ingested[ModelSize.SMALL]
        return spent / alone


def active_params(large_frac: float, *, small: float, large: float) -> float:
    """Return f_L N_L + (1 - f_L) N_S: mean number of parameters active per emitted token."""
    return large_frac * large + (1.0 - large_frac) * small


def threshold_for_share(rolling_entropies: Sequence[float], large_frac: float) -> float:
    """Return the threshold that sends about `large_frac` of the tokens to the large model.

    Args:
        rolling_entropies: Rolling means of the small model on calibration prompts, nats.
        large_frac: Wanted share f_L in [0, 1].
    """
    if not 0.0 <= large_frac <= 1.0 or not rolling_entropies:
        raise ValueError(
            f"large_frac={large_frac} must be in [0, 1] and rolling_entropies not empty "
            f"(got {len(rolling_entropies)})"
        )
    return float(np.quantile(np.asarray(rolling_entropies), 1.0 - large_frac))
