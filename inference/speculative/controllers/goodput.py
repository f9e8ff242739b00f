"""SmartSpec: draft length per request and step that maximises goodput (arXiv 2406.14066).

Goodput = expected emitted tokens / step time. Request i with k_i drafted tokens and acceptance a_{i,j} at
position j emits 1 + sum_{j<=k_i} s_{i,j} tokens, where survival s_{i,j} = prod_{m<=j} a_{i,m}. Time is that of
`StepCost` for the target and for each of max k_i drafter forwards over the requests that still draft.

Survival does not increase in j, so any prefix of all slots (i, j) sorted by survival is a valid choice of
lengths; the best prefix is taken. Length 0 for all, plain decoding, is one of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from inference.speculative.controllers.step_cost import StepCost


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodputCosts:
    """Measured times of the target and of the drafter."""

    target: StepCost
    drafter: StepCost | None
    """None = the drafter costs nothing (lookup)."""


@dataclass(frozen=True, slots=True)
class DraftLoad:
    """What the choice of lengths needs to know of one request."""

    context_tokens: int
    accept_probs: Sequence[float]
    """Acceptance at position 1, 2, ... given that all earlier ones were accepted; as many as may be
    drafted in this step."""


@dataclass(frozen=True, slots=True)
class LengthChoice:
    """Lengths of all requests and what they promise."""

    lengths: tuple[int, ...]
    goodput: float
    """Expected emitted tokens per second."""


def survival(accept_probs: Sequence[float]) -> list[float]:
    """Return the probability that positions 1..j are all accepted, for each j."""
    return list(itertools.accumulate(accept_probs, lambda a, b: a * b))


def expected_goodput(
    loads: Sequence[DraftLoad], lengths: Sequence[int], costs: GoodputCosts
) -> float:
    """Return expected emitted tokens per second of a step with these draft lengths."""
    pairs = list(zip(loads, lengths, strict=True))
    tokens = sum(1.0 + sum(survival(load.accept_probs[:length])) for load, length in pairs)
    return tokens / step_seconds(loads, lengths, costs)


def step_seconds(loads: Sequence[DraftLoad], lengths: Sequence[int], costs: GoodputCosts) -> float:
    """Return the time of one step: the drafter's forwards and one target forward."""
    contexts = [load.context_tokens for load in loads]
    seconds = costs.target.seconds(len(loads) + sum(lengths), sum(contexts))
    if costs.drafter is None:
        return seconds
    for position in range(max(lengths, default=0)):
        drafting = [c for c, length in zip(contexts, lengths, strict=True) if length > position]
        seconds += costs.drafter.seconds(len(drafting), sum(drafting))
    return seconds


def choose_lengths(loads: Sequence[DraftLoad], costs: GoodputCosts) -> LengthChoice:
    """Return the draft lengths with the best goodput among all prefixes of the sorted slots."""
    slots = sorted(
        (
            (-value, request, position)
            for request, load in enumerate(loads)
            for position, value in enumerate(survival(load.accept_probs))
        ),
    )
    lengths = [0] * len(loads)
    tokens = float(len(loads))
    seconds = step_seconds(loads, lengths, costs)
    best = LengthChoice(tuple(lengths), tokens / seconds if loads else 0.0)
    drafting: list[int] = []  # requests that draft at each position
    for negative, request, position in slots:
        context = loads[request].context_tokens
        tokens -= negative
        seconds += costs.target.token_s
        if position == len(drafting):
            drafting.append(0)
            seconds += costs.drafter.base_s if costs.drafter else 0.0
        drafting[position] += 1
        if costs.drafter:
            seconds += costs.drafter.token_s + costs.drafter.context_s * context
        lengths[request] += 1
        if tokens / seconds > best.goodput:
            best = LengthChoice(tuple(lengths), tokens / seconds)
    return best


@dataclass(slots=True, eq=False)
class AcceptanceMeter:
    """Running acceptance of one request, per draft position, with a prior."""

    max_length: int
    """Longest draft that is ever asked for."""
    prior: float = 0.7
    """Acceptance before anything was seen."""
    decay: float = 0.9
    """Weight of the past per observation, in [0, 1)."""
    refresh_after: int = 32
    """After so many steps without a draft, one token is drafted to see whether it pays again."""
    _probs: list[float] = field(init=False)
    _idle_steps: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.max_length < 0 or not 0.0 <= self.prior <= 1.0 or not 0.0 <= self.decay < 1.0:
            raise ValueError(
                f"max_length={self.max_length}, prior={self.prior}, decay={self.decay}: expected "
                "max_length >= 0, prior in [0, 1], decay in [0, 1)"
            )
        self._probs = [self.prior] * self.max_length

    @property
    def accept_probs(self) -> tuple[float, ...]:
        """Acceptance at position 1, 2, ... given that all earlier ones were accepted."""
        return tuple(self._probs)

    @property
    def needs_refresh(self) -> bool:
        """Whether one token should be drafted although the choice was 0."""
        return self.max_length > 0 and self._idle_steps >= self.refresh_after

    def observe(self, num_drafted: int, num_accepted: int) -> None:
        """Learn from one step: positions up to and including the first rejection were tried."""
        self._idle_steps = 0 if num_drafted else self._idle_steps + 1
        for position in range(min(num_drafted, num_accepted + 1, self.max_length)):
            outcome = float(position < num_accepted)
            old = self._probs[position]
            self._probs[position] = self.decay * old + (1.0 - self.decay) * outcome
