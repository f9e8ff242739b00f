"""Snapshots for environments that have none: the recorded actions, executed again from the start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rollout.envs.base import Example, Observation, StepEnvironment, TurnFormat


class ReplayError(RuntimeError):
    """The environment answered the same actions differently; it needs real snapshots."""


@dataclass(frozen=True, slots=True)
class Episode:
    """All that happened in an episode."""

    example: Example
    first: Observation | None
    steps: tuple[tuple[str, Observation], ...] = ()
    """Actions and what the environment answered."""


class ReplayEnvironment:
    """An `Environment` around one with `reset` and `step` only, which must be deterministic.

    A restored episode is replayed on a fresh instance, unless it is the one that is loaded. n turns
    in one line cost n steps, a branch at turn n costs n more.

    Args of the constructor: `make` returns a new environment.
    """

    def __init__(self, make: Callable[[], StepEnvironment]) -> None:
        self._make = make
        self._inner = make()
        self._episode: Episode | None = None

    @property
    def turns(self) -> TurnFormat:
        """The format of the wrapped environment."""
        return self._inner.turns

    def reset(self, example: Example, /) -> Observation | None:
        """Start an episode on a fresh instance."""
        self._episode, self._inner = None, self._make()
        first = self._inner.reset(example)
        self._episode = Episode(example, first)
        return first

    def step(self, action: str, /) -> Observation:
        """Take a step and record it."""
        assert self._episode is not None, "step before reset or restore"
        episode, self._episode = self._episode, None  # stays None if the step raises
        observation = self._inner.step(action)
        self._episode = Episode(
            episode.example, episode.first, (*episode.steps, (action, observation))
        )
        return observation

    def snapshot(self) -> Episode:
        """The record of the episode."""
        assert self._episode is not None, "snapshot before reset or restore"
        return self._episode

    def restore(self, state: Episode, /) -> None:
        """Play an episode again.

        Raises:
            ReplayError: An observation differs from the recorded one.
        """
        if state is self._episode:
            return
        _expect_same(self.reset(state.example), state.first, 0)
        for number, (action, observation) in enumerate(state.steps, start=1):
            _expect_same(self._inner.step(action), observation, number)
        self._episode = state


def _expect_same(now: Observation | None, then: Observation | None, number: int) -> None:
    if now != then:
        raise ReplayError(
            f"the replay differs at step {number}: {now!r} instead of {then!r}; make the "
            "environment deterministic or give it snapshot and restore"
        )
