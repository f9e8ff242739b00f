"""DEL: choose exit layer and draft length from what every layer would have predicted.

Every forward passes all layers, so for each candidate exit layer l the *shadow token* (argmax of norm and
head on the hidden state leaving layer l) and its probability are known at every verified position. With
alpha_l = share of shadow tokens that agree with the output, decayed over rounds,

    TPL(l, g) = (sum_{j=0..g} alpha_l^j) / (L + g l)         tokens per layer evaluated; g = 0 is plain, 1/L
    (l*, g*)  = argmax over 0 < l < L, 0 <= g < g_max
    tau_l     = (mean confidence when matched + mean confidence when mismatched) / 2

draft with layers [0, l*), at most g* tokens, and stop behind a token less probable than tau_l* (DEL,
arXiv 2504.05598).

Differences from the released code:

* g* = 0 is honoured: a plain step, after which the statistics are still fresh;
* the cost of the output head can be counted, in units of one layer;
* a layer without trials is unknown, which means "try it", not "never";
* a match may be fractional: when sampling, pass sum min(p, q_l) instead of equality of argmaxes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inference.speculative.controllers.fixed import Chain


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitChoiceConfig:
    """How exit layer and length are chosen."""

    num_layers: int
    """L, layers of the model."""
    exit_layers: tuple[int, ...]
    """Candidates l; layers [0, l) draft."""
    decay: float = 0.95
    """omega in (0, 1]: weight of the past per round."""
    max_length: int = 18
    """g_max: lengths 0..g_max-1 are considered."""
    head_cost: float = 0.0
    """Cost of norm and head relative to one layer; count it when the vocabulary is large."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not self.exit_layers or not all(0 < x < self.num_layers for x in self.exit_layers):
            raise ValueError(
                f"exit_layers={self.exit_layers} must be layers between 1 and {self.num_layers - 1}"
            )
        if not 0.0 < self.decay <= 1.0:
            raise ValueError(f"decay={self.decay} is outside (0, 1]; the usual value is 0.95")
        if self.max_length < 2 or self.head_cost < 0.0:
            raise ValueError(
                f"max_length={self.max_length} must be at least 2 (lengths 0 and 1) and "
                f"head_cost={self.head_cost} not negative"
            )


@dataclass(frozen=True, slots=True)
class ShadowRound:
    """What one exit layer would have drafted at the valid positions of one round."""

    matches: Sequence[float]
    """Per position in [0, 1]: 1 = agreed with the output; sum min(p, q_l) when sampling."""
    confidences: Sequence[float]
    """Per position: the layer's probability of its shadow token."""


@dataclass(frozen=True, slots=True)
class ExitPlan:
    """How the next round drafts."""

    exit_layer: int
    controller: Chain


@dataclass(slots=True)
class _LayerSums:
    matches: float = 0.0
    trials: float = 0.0
    confidence_matched: float = 0.0
    confidence_missed: float = 0.0

    @property
    def rate(self) -> float:
        """Acceptance alpha; NaN without trials."""
        return self.matches / self.trials if self.trials > 0.0 else math.nan

    @property
    def threshold(self) -> float:
        """Confidence tau below which drafting stops; 0 (never) without both kinds of trials."""
        missed = self.trials - self.matches
        if self.matches <= 0.0 or missed <= 0.0:
            return 0.0
        return (self.confidence_matched / self.matches + self.confidence_missed / missed) / 2.0

    def decay_and_add(self, seen: ShadowRound, decay: float) -> None:
        pairs = list(zip(seen.matches, seen.confidences, strict=True))
        self.matches = decay * self.matches + sum(m for m, _ in pairs)
        self.trials = decay * self.trials + len(pairs)
        matched = sum(m * c for m, c in pairs)
        missed = sum((1.0 - m) * c for m, c in pairs)
        self.confidence_matched = decay * self.confidence_matched + matched
        self.confidence_missed = decay * self.confidence_missed + missed


class ExitChoice:
    """Statistics of all exit layers of one request, and the plan for its next round.

    Positions of a round are valid up to and including the first mismatch of the layer that drafted:
    later ones are conditioned on text that was rejected.
    """

    def __init__(self, config: ExitChoiceConfig) -> None:
        self.config = config
        self._sums = {layer: _LayerSums() for layer in config.exit_layers}
        self._num_rounds = 0

    def observe(self, rounds: Mapping[int, ShadowRound]) -> None:
        """Learn from one round (at first: from the last 32 prompt positions); layers may be missing."""
        for layer, seen in rounds.items():
            if seen.matches:
                self._sums[layer].decay_and_add(seen, self.config.decay)
        self._num_rounds += 1

    def rates(self) -> dict[int, float]:
        """Return alpha of each exit layer, NaN where there were no trials."""
        return {layer: sums.rate for layer, sums in self._sums.items()}

    def plan(self) -> ExitPlan:
        """Return the exit layer and the chain of the next round.

        Unknown layers come first, with one token; so does the first round after the prompt.
        """
        rates = self.rates()
        for layer, rate in rates.items():
            if math.isnan(rate):
                return ExitPlan(layer, Chain(1))
        layer, length = best_exit(rates, self.config)
        if self._num_rounds == 1:
            length = 1
        return ExitPlan(layer, Chain(length, self._sums[layer].threshold))

    def reset(self) -> None:
        """Forget everything: the weights changed, or a new request begins."""
        self._sums = {layer: _LayerSums() for layer in self.config.exit_layers}
        self._num_rounds = 0


@dataclass(frozen=True, slots=True)
class FixedExit:
    """Always the same plan."""

    exit_plan: ExitPlan

    def plan(self) -> ExitPlan:
        """Return the plan."""
        return self.exit_plan

    def reset(self) -> None:
        """Nothing to forget."""


def tokens_per_layer(
    rate: float, *, exit_layer: int, length: int, num_layers: int, head_cost: float = 0.0
) -> float:
    """Return TPL = sum_{j<=g} alpha^j / (L + g l): expected tokens per layer evaluated.

    Args:
        rate: alpha in [0, 1].
        exit_layer: l.
        length: g, drafted tokens.
        num_layers: L.
        head_cost: Cost of norm and head in layers; added once per forward.
    """
    tokens = sum(rate**j for j in range(length + 1))
    return tokens / (num_layers + head_cost + length * (exit_layer + head_cost))


def best_exit(rates: Mapping[int, float], config: ExitChoiceConfig) -> tuple[int, int]:
    """Return (exit layer, length) with the largest TPL; ties: the earlier layer, the shorter draft."""
    options = [
        (
            -tokens_per_layer(
                rate,
                exit_layer=layer,
                length=length,
                num_layers=config.num_layers,
                head_cost=config.head_cost,
            ),
            layer,
            length,
        )
        for layer, rate in rates.items()
        for length in range(config.max_length)
    ]
    _, layer, length = min(options)
    return layer, length
