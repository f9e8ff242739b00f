"""What an environment is: turns of text, from the model and back, with a state that can be copied.

    prompt [+ first observation]  turn  observation  turn  observation  turn(done)
                                  `------ one step -----'

Error model: whatever a model wrote, `step` answers. An environment that raises, hangs or returns
nonsense ends the paths concerned with a `FinishReason` (environment_failed, environment_timeout) and
a text in their facts; nothing passes into the loop. Only a wrong configuration raises, at the start.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

Example = Mapping[str, Any]  # a data-set row: its columns are the user's
Facts = Mapping[str, Any]  # JSON-able values, named by the environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the environment answers to a turn."""

    text: str = ""
    """What the model reads next, without the frame of `TurnFormat`. Not shown when `done`."""
    done: bool = False
    """True when the episode is over: the path ends as FINISHED."""
    broke_format: bool = False
    """True when the turn broke the protocol so badly that the path ends as FORMAT."""
    detail: Facts = field(default_factory=dict)
    """Facts about the whole episode so far, for rewards; they replace those of the step before."""


class ActionEnd(Protocol):
    """Tells where the model's action ends."""

    def find(self, text: str) -> int | None:
        """Index behind the first complete action in `text`, None if there is none yet.

        Must be monotone: more text behind an action does not move its end.
        """
        ...


@dataclass(frozen=True, slots=True)
class ClosingTags:
    """An action ends with the first of these tags.

    Example: `ClosingTags(("</sql>",)).find("<sql>1</sql>x")` is 12.
    """

    tags: tuple[str, ...]

    def find(self, text: str) -> int | None:
        """See `ActionEnd.find`."""
        ends = [at + len(tag) for tag in self.tags if (at := text.find(tag)) >= 0]
        return min(ends, default=None)


@dataclass(frozen=True, slots=True)
class ActionLine:
    r"""An action is a line that starts with `prefix`; it ends with its line feed.

    Example: `ActionLine("Action:").find("hm\nAction: go\nx")` is 14.
    """

    prefix: str

    def find(self, text: str) -> int | None:
        """See `ActionEnd.find`."""
        match = re.search(rf"^{re.escape(self.prefix)}[^\n]*\n", text, re.MULTILINE)
        return None if match is None else match.end()


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFormat:
    """How turns and observations look as text."""

    action_end: ActionEnd
    """Where the model's turn ends."""
    observation_open: str
    """Written before every observation."""
    observation_close: str
    """Written after every observation."""
    forbidden: tuple[str, ...] = ()
    """Tags that only the environment may write: a path whose model writes one ends as FORMAT."""
    reserved: tuple[str, ...] = ()
    """Tags that only the model may write. In observations these and the forbidden ones are
    neutralised: their `<` becomes `&lt;`."""
    cut_mark: str = " ... (cut)"
    """Stands where a long observation was cut."""

    def __post_init__(self) -> None:
        """Check the tags."""
        wrong = [tag for tag in self.forbidden + self.reserved if not tag.startswith("<")]
        if wrong:
            raise ValueError(f"tags {wrong} must start with '<', else they cannot be neutralised")


@runtime_checkable
class StepEnvironment(Protocol):
    """An environment without snapshots; `ReplayEnvironment` makes a full one of it."""

    @property
    def turns(self) -> TurnFormat:
        """The text format; the same for all instances of a configuration."""
        ...

    def reset(self, example: Example, /) -> Observation | None:
        """Start the episode of a data-set row; what the model sees first, None for nothing."""
        ...

    def step(self, action: str, /) -> Observation:
        """Take a turn: all that the model wrote since the last observation, action end included."""
        ...


@runtime_checkable
class Environment(StepEnvironment, Protocol):
    """What `rollout/envs/<name>.py` provides; the module names its class in `ENVIRONMENT`.

    Instances are created, used and dropped by one thread each. Every step is preceded by `restore`,
    so an instance serves many branches; all that differs between branches is in the snapshot.
    """

    def snapshot(self) -> object:
        """The whole state of the episode, as a value that no later call changes."""
        ...

    def restore(self, state: Any, /) -> None:  # what this class's own snapshot returned
        """Continue from a snapshot, also one that another instance took."""
        ...
