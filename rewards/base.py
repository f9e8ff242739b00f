"""The contract of every reward: a `Sample` in, a `Score` out.

Error model: whatever a model wrote, `score` returns; failures are data (a `Verdict` and a detail).
`Score.value is None` means "the reference is unusable", never "the model failed" (a policy that can
turn its failures into skipped rows will learn to). Only bad configuration raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable


class Verdict(StrEnum):
    """What a verifier concluded about one completion."""

    CORRECT = "correct"
    """The answer equals the reference."""
    WRONG = "wrong"
    """An answer was found and it differs from the reference."""
    NO_ANSWER = "no_answer"
    """No well-formed answer was found."""
    REJECTED = "rejected"
    """A guard refused to parse the answer (too long, too deep, too expensive)."""
    UNPARSEABLE = "unparseable"
    """The answer was extracted but could not be read."""
    TIMEOUT = "timeout"
    """The verifier was killed at its wall-clock limit."""
    CRASHED = "crashed"
    """The verifier process died on this sample."""
    BAD_REFERENCE = "bad_reference"
    """The reference itself cannot be used; the value is None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One completion to judge."""

    completion: str
    """Text the model wrote, special tokens removed."""
    reference: Mapping[str, Any]  # a data-set row: its columns are the user's
    """The row of the data set that the prompt came from (answer, id, ...)."""
    prompt: str = ""
    """Prompt text, for rewards that need it."""
    num_tokens: int = 0
    """Length of the completion in tokens, 0 when unknown."""
    truncated: bool = False
    """True when the completion hit the length limit before it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Result of one reward for one completion, before weighting."""

    value: float | None
    """The score; None only for an unusable reference."""
    verdict: Verdict
    parts: Mapping[str, float] = field(default_factory=dict)
    """Named terms whose sum is `value`, for composite rewards."""
    detail: str = ""
    """Short, machine-readable extra: the extracted answer, an error class."""
    seconds: float = 0.0
    """Wall-clock seconds the judgement took."""


@runtime_checkable
class Reward(Protocol):
    """What a reward plugin provides; `rewards/<name>.py` names its class in `REWARD`."""

    name: str

    def score(self, sample: Sample) -> Score:
        """Judge one completion; never raises on what a model may write."""
        ...
