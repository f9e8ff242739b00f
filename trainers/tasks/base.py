"""Contract of the embedded tasks: rows to train on, demonstrations for a warm start.

A task is a module of this package that names its class in the constant `TASK`. The class takes the
habits of its demonstrations, a dataclass of probabilities that the module names in `MIX`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Split = Literal["train", "heldout"]
Row = dict[str, Any]  # one row of a data set: its columns are the task's
Respond = Callable[[Sequence[str], bool], list[str]]
"""Responses of a policy to prompts, most likely ones (False) or sampled (True), up to the first EOS."""

EMBEDDED = ("chain_sums", "corner_shop", "office_agent", "office_sql")
"""Names of the tasks: modules of this package."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a demonstration."""

    text: str
    is_written: bool = True
    """False for an observation: the policy reads it, and has no loss on it."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What a policy may write in answer to a prompt."""

    prompt: str
    pieces: tuple[Piece, ...]


class Task(Protocol):
    """One embedded task with the habits of its demonstrations."""

    title: str
    """A few words for the model card."""
    recipe: str
    """Recipe that trains on it."""
    warmstart: str
    """Recipe that makes its starting policy."""
    words: tuple[str, ...]
    """Texts of several characters that are one token."""
    num_tokens: int
    """Most tokens of a prompt with its response, observations included."""
    num_turn_tokens: int
    """Most tokens that a policy writes in one turn."""

    def rows(self, split: Split) -> list[Row]:
        """The problems of a split, with the columns `prompt`, `answer` and what rewards need."""
        ...

    def demonstration(self, rng: random.Random, *, is_mixed: bool) -> Demonstration:
        """Draws a problem and a response: exemplary, or `is_mixed` with the habits of the mix."""
        ...

    def figures(self, respond: Respond) -> dict[str, float]:
        """What a policy does with the held-out problems: fractions by name."""
        ...

    def example(self) -> str:
        """A problem with good and bad responses, for the model card."""
        ...


def load_task(name: str, mix: Mapping[str, float], *settings: object) -> Task:
    """The task called `name`.

    Args:
        name: One of `EMBEDDED`.
        mix: Habits by name, see the module's `MIX`.
        settings: Further arguments of the task's class.

    Raises:
        ValueError: There is no such task, it has no such habit, or a value is no probability.
    """
    if name not in EMBEDDED:
        raise ValueError(f"task={name!r} is unknown; use one of {', '.join(EMBEDDED)}")
    module: Any = importlib.import_module(f"trainers.tasks.{name}")
    known = [field.name for field in dataclasses.fields(module.MIX)]
    unknown = sorted(set(mix) - set(known))
    if unknown:
        raise ValueError(f"mix: {name} has no {', '.join(unknown)}; known: {', '.join(known)}")
    task: Task = module.TASK(module.MIX(**mix), *settings)
    return task


def check_probabilities(mix: Any) -> None:  # any dataclass of numbers
    """Refuse a field outside [0, 1].

    Raises:
        ValueError: It names the field.
    """
    for field in dataclasses.fields(mix):
        value = getattr(mix, field.name)
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{field.name}={value} is not a probability; use a value in [0, 1]")


def split_of(text: str, heldout_one_in: int) -> Split:
    """The only split in which a problem may appear: a hash of its text decides."""
    digest = hashlib.sha256(text.encode()).digest()
    is_heldout = int.from_bytes(digest[:8], "big") % heldout_one_in == 0
    return "heldout" if is_heldout else "train"
