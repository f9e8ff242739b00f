"""Randomness through two calls, so that a replay source can enumerate every outcome.

Convention: u in [0, 1); accept iff u < a; inverse-CDF sampling returns the smallest index whose
cumulative probability is above u.

`PhiloxSource` is used for decoding. `ReplaySource` with `enumerate_outcomes` runs a decoder through
all of its random choices and gives the exact law of what it emits.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from inference.philox import path_key, uniforms

Purpose = Literal["draft", "accept"]
Outcome = TypeVar("Outcome", bound=Hashable)
_BLOCK = 32


class RandomSource(Protocol):
    """All the randomness that drafters and accept rules may use."""

    def categorical(self, probs: NDArray[np.float64]) -> int:
        """Return index i with probability `probs[i]`."""
        ...

    def bernoulli(self, prob: float) -> bool:
        """Return True with probability `prob`."""
        ...


@dataclass(slots=True, eq=False)
class PhiloxSource:
    """Numbers that depend only on (key, step, purpose) and on how many were taken before.

    Each step of a request needs a source of its own: the same numbers in two steps make them
    dependent. Drafting and accepting have separate streams, so the accept rule's numbers do not depend on
    how many the drafter took.
    """

    key: int
    """Key of the request, in [0, 2**64)."""
    step: int
    """Number of committed tokens, or any other number that never repeats in a request."""
    purpose: Purpose
    _taken: int = field(default=0, init=False)
    _block: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), init=False)

    def uniform(self) -> float:
        """Return the next number in [0, 1)."""
        index = self._taken % _BLOCK
        if index == 0:
            stream = path_key("speculative", self.key, self.step, self.purpose)
            positions = np.arange(self._taken, self._taken + _BLOCK)
            self._block = uniforms(np.full(_BLOCK, stream, dtype=np.uint64), positions)
        self._taken += 1
        return float(self._block[index])

    def categorical(self, probs: NDArray[np.float64]) -> int:
        """Return index i with probability `probs[i]`."""
        return inverse_cdf(probs, self.uniform())

    def bernoulli(self, prob: float) -> bool:
        """Return True with probability `prob`."""
        return self.uniform() < prob


def inverse_cdf(probs: NDArray[np.float64], uniform: float) -> int:
    """Return the smallest index whose cumulative probability is above `uniform`.

    An index of probability 0 is never returned, also when the probabilities sum to a bit less than 1.

    Args:
        probs: [V] float64, not negative, at least one positive.
        uniform: In [0, 1).
    """
    cumulative = np.cumsum(probs)
    index = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    last_positive = int(np.searchsorted(cumulative, cumulative[-1], side="left"))
    return min(index, last_positive)


@dataclass(slots=True, eq=False)
class ReplaySource:
    """Follows a script of choices; beyond it takes the first possible outcome and notes the others."""

    script: tuple[int, ...] = ()
    """Indices to choose; bernoulli counts True as 1."""
    weight: float = 1.0
    """Product of the probabilities of the choices made so far."""
    choices: list[int] = field(default_factory=list)
    untaken: list[tuple[int, ...]] = field(default_factory=list)
    """Scripts of all runs that leave this run's way at a choice beyond the script."""

    def categorical(self, probs: NDArray[np.float64]) -> int:
        """Take the scripted index, or the first one of positive probability."""
        return self._choose([float(prob) for prob in probs])

    def bernoulli(self, prob: float) -> bool:
        """Take the scripted answer, or the first possible one of False and True."""
        return self._choose([1.0 - prob, prob]) == 1

    def _choose(self, probs: list[float]) -> int:
        made = len(self.choices)
        if made < len(self.script):
            choice = self.script[made]
        else:
            choice, *others = (index for index, prob in enumerate(probs) if prob > 0.0)
            self.untaken += [(*self.choices, other) for other in others]
        self.choices.append(choice)
        self.weight *= probs[choice]
        return choice


def enumerate_outcomes(run: Callable[[RandomSource], Outcome]) -> dict[Outcome, float]:
    """Return the exact law of what `run` returns.

    Args:
        run: Called once for every sequence of random choices; must start from the same state each time.

    Returns:
        Probability of each outcome; they sum to 1 up to rounding.

    Example:
        `enumerate_outcomes(lambda rng: rng.bernoulli(0.3))` is {False: 0.7, True: 0.3}.
    """
    law: dict[Outcome, float] = {}
    for outcome, weight in weighted_runs(run):
        law[outcome] = law.get(outcome, 0.0) + weight
    return law


def weighted_runs(run: Callable[[RandomSource], Outcome]) -> Iterator[tuple[Outcome, float]]:
    """Yield (outcome, probability) of every single sequence of random choices."""
    scripts: list[tuple[int, ...]] = [()]
    while scripts:
        rng = ReplaySource(scripts.pop())
        outcome = run(rng)
        scripts += rng.untaken
        yield outcome, rng.weight
