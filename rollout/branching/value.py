"""Branching by a value function of the user: more children for good paths, an early end for hopeless ones.

The function gets the active paths of one prompt (segments, the prompt first) and returns one number
each, for example the success rate that a value model expects. Two limits use it:

* a path below `stop_below` ends as a leaf (`FinishReason.PRUNED`), and its budget goes to the others;
* a path below `prune_below` goes on with a single child; the others share the rest by softmax(v/T).

A pruned leaf is a training response like a truncated one, so give the reward something to say about
it; it is never re-used by fallback. The choice of leaves then depends on the value function: means
over leaves are no estimates of the policy's expected reward.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rollout.apportionment import split_by_scores
from rollout.branching.base import ResponsePath, branch_budget

ValueFunction = Callable[[Sequence[ResponsePath]], Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueBranchingConfig:
    """The value function and what it decides."""

    function: str
    """pkg.mod:function, a `ValueFunction`; deterministic, or resumed runs differ."""
    temperature: float = 1.0
    """T of the softmax in units of the value, positive; large values approach even splitting."""
    prune_below: float | None = None
    """Paths with a lower value get one child; None: never."""
    stop_below: float | None = None
    """Paths with a lower value end at once; None: never."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature} must be positive")
        if ":" not in self.function:
            raise ValueError(f"function={self.function!r} must be written pkg.mod:function")


class ValueBranching:
    """Follows a value function; see the module."""

    def __init__(self, branching: int, config: ValueBranchingConfig) -> None:
        self._branching = branching
        self._config = config
        self._function = load_value_function(config.function)

    def early_stops(self, active: Sequence[ResponsePath]) -> list[bool]:
        """Whether each path ends here; see `EarlyStop.early_stops`."""
        limit = self._config.stop_below
        return [limit is not None and value < limit for value in self._values(active)]

    def allocate(
        self,
        stopped: Sequence[ResponsePath],
        active: Sequence[ResponsePath],
        remaining: int,
        rng: random.Random,
    ) -> list[int]:
        """Children of each active path; see `BranchPolicy.allocate`."""
        del rng  # part of the contract; the split is a function of the values
        total = branch_budget(
            remaining=remaining,
            num_stopped=len(stopped),
            num_active=len(active),
            branching=self._branching,
        )
        values, limit = self._values(active), self._config.prune_below
        kept = [i for i, value in enumerate(values) if limit is None or value >= limit]
        children = [1] * len(active)
        if kept:
            rest = total - (len(active) - len(kept))
            shares = split_by_scores([values[i] for i in kept], rest, self._config.temperature)
            for index, num in zip(kept, shares, strict=True):
                children[index] = num
        return children

    def _values(self, paths: Sequence[ResponsePath]) -> list[float]:
        values = list(self._function(paths))
        if len(values) != len(paths):
            raise ValueError(
                f"{self._config.function} returned {len(values)} values for {len(paths)} paths; "
                "it must return one number per path"
            )
        return values


def load_value_function(name: str) -> ValueFunction:
    """The function `pkg.mod:function`.

    Raises:
        ValueError: It cannot be imported or called.
    """
    module_name, _, attribute = name.partition(":")
    try:
        function: ValueFunction = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"value function {name!r} cannot be loaded: {error}") from error
    if not callable(function):
        raise ValueError(f"value function {name!r} is not callable")
    return function


POLICY = ValueBranching
