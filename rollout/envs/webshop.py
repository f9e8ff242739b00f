"""Shopping by thoughts and actions in a text simulator (WebShop, arXiv 2207.01206).

    environment:  WebShop [SEP] Instruction: [SEP] ... [SEP] Search        (after reset)
    model:        <think>...</think><action>search[red shoe]</action>
    environment:  Instruction: [SEP] ... [SEP] Back to Search [SEP] ...
    model:        <think>...</think><action>click[buy now]</action>        the episode is over

The tags are those of verl-agent; the simulator brings pages, transitions and the reward. What is not
one of its actions changes nothing and shows the page again. Facts for rewards:

* actions: what the simulator was asked to do, in order (an empty text for a turn without <action>);
* reward: the simulator's reward of the last step, R at `buy now`, 0 before;
* is_done: the simulator ended the episode; invalid_actions: turns that it refused or without
  <action>; thoughts: turns with a thought before the action.

An episode that ends without buying (rollout.env.max_turns, usually 15) has reward 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from rollout.envs.base import ClosingTags, Example, Observation, TurnFormat
from rollout.envs.load import load_object

_ACTION = re.compile(r"<action>((?:(?!<action>).)*)</action>\Z", re.DOTALL)
_THOUGHT = re.compile(r"<think>(?:(?!</?think>).)*</think>", re.DOTALL)


class SimulatorStep(Protocol):
    """What the simulator answers to an action."""

    @property
    def observation(self) -> str:
        """The page after the action, as text."""
        ...

    @property
    def reward(self) -> float:
        """Reward of this step, in [0, 1]; 0 unless something was bought."""
        ...

    @property
    def is_done(self) -> bool:
        """True when the episode is over."""
        ...

    @property
    def is_valid(self) -> bool:
        """False when the action was refused and changed nothing."""
        ...


class TextSimulator(Protocol):
    """A session of a text simulator with states that can be copied."""

    def reset(self, example: Example, /) -> str:
        """Start the session of a data-set row; the first page."""
        ...

    def step(self, action: str, /) -> SimulatorStep:
        """Do an action such as `search[red shoe]` or `click[buy now]`."""
        ...

    def snapshot(self) -> object:
        """The session as a value that no later call changes."""
        ...

    def restore(self, state: Any, /) -> None:  # what its own snapshot returned
        """Continue from a snapshot, also one of another session."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WebShopConfig:
    """Which simulator."""

    simulator: str
    """pkg.mod:function (or class) that returns a new session of the simulator; called once in every
    environment thread, so it should share the catalogue."""
    settings: Mapping[str, Any] = field(default_factory=dict)  # the function's own
    """Keyword arguments of the function."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebShopState:
    """All that an episode remembers."""

    session: object
    """Snapshot of the simulator."""
    reward: float = 0.0
    is_done: bool = False
    actions: tuple[str, ...] = ()
    num_invalid: int = 0
    num_thoughts: int = 0


class WebShop:
    """Passes actions to the simulator and counts."""

    turns = TurnFormat(
        action_end=ClosingTags(("</action>",)),
        observation_open="\n<observation>",
        observation_close="</observation>\n",
        forbidden=("<observation>", "</observation>"),
        reserved=("<think>", "</think>", "<action>", "</action>"),
    )

    def __init__(self, config: WebShopConfig) -> None:
        make = load_object(config.simulator, key="rollout.env.options.simulator")
        self._make: Callable[[], TextSimulator] = partial(make, **config.settings)
        self._session: TextSimulator | None = None
        self._state = WebShopState(session=None)

    def reset(self, example: Example, /) -> Observation | None:
        """Show the first page."""
        simulator = self._simulator()
        text = simulator.reset(example)
        self._state = WebShopState(session=simulator.snapshot())
        return Observation(text=text, detail=self._facts())

    def step(self, action: str, /) -> Observation:
        """Do the action of the turn; a turn without one is an empty, invalid action."""
        match = _ACTION.search(action)
        asked = "" if match is None else match[1].strip()
        simulator = self._simulator()
        answer = simulator.step(asked)
        is_valid = match is not None and answer.is_valid
        old = self._state
        self._state = WebShopState(
            session=simulator.snapshot(),
            reward=answer.reward,
            is_done=answer.is_done,
            actions=(*old.actions, asked),
            num_invalid=old.num_invalid + (not is_valid),
            num_thoughts=old.num_thoughts + (_THOUGHT.search(action) is not None),
        )
        return Observation(text=answer.observation, done=answer.is_done, detail=self._facts())

    def snapshot(self) -> WebShopState:
        """The state, an immutable value."""
        return self._state

    def restore(self, state: WebShopState, /) -> None:
        """Continue from a state."""
        self._simulator().restore(state.session)
        self._state = state

    def _simulator(self) -> TextSimulator:
        """The session of this instance; made at first use, for constructors open nothing."""
        if self._session is None:
            self._session = self._make()
        return self._session

    def _facts(self) -> dict[str, Any]:  # JSON-able
        return {
            "actions": list(self._state.actions),
            "reward": self._state.reward,
            "is_done": self._state.is_done,
            "invalid_actions": self._state.num_invalid,
            "thoughts": self._state.num_thoughts,
        }


ENVIRONMENT = WebShop
