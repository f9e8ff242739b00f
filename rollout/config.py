"""What to grow: the shape of the trees (`RolloutConfig`) and the prompts (`PromptTask`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inference.requests import SamplingParams
from rollout.envs.config import EnvConfig
from rollout.stopping import StopConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchPolicyEntry:
    """A branch policy with settings of its own."""

    type: str
    """Module of rollout/branching, or pkg.mod:Class."""
    settings: dict[str, Any] = field(default_factory=dict)  # fields of the policy's own Config
    """Configuration of the policy, checked against its Config class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutConfig:
    """Shape of the trees and law of the tokens. Defaults: TreePO's 14 x 512, binary, 16 leaves."""

    width: int = 16
    """w: leaves (training responses) per prompt."""
    max_segments: int = 14
    """d: most segments of a response."""
    segment_length: int = 512
    """l: most tokens of a segment."""
    max_response_tokens: int | None = None
    """Limit of a response in tokens; None: max_segments * segment_length."""
    branching: int = 2
    """N: children per path and level. 1 never forks."""
    initial_divergence: int | tuple[int, int] | None = None
    """First segments per prompt: a number, or a range (lo, hi) from which each prompt draws. None:
    `branching`, or `width` if branching is 1. Equal to width: independent samples, no tree."""
    fallback: bool = True
    """Where missing leaves start: True at boundaries of finished responses, False at the prompt."""
    branch_policy: str | BranchPolicyEntry = "even"
    """How children are shared out: a module of rollout/branching, pkg.mod:Class, or a mapping with
    `type` and `settings`. TreePO found no heuristic better than even."""
    stop: StopConfig = field(default_factory=StopConfig)
    """Which signs end a path."""
    env: EnvConfig | None = None
    """Environment that answers the model while it writes; None: the model writes alone."""
    temperature: float = 1.0
    """Logits are divided by it; 0 is greedy (all leaves of a prompt equal)."""
    top_p: float = 1.0
    """Nucleus, in (0, 1]; 1 = off."""
    top_k: int = 0
    """Most probable tokens kept; 0 = off."""
    min_p: float = 0.0
    """Smallest kept probability relative to the largest, in [0, 1); 0 = off."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("width", "max_segments", "segment_length", "branching"):
            if getattr(self, name) < 1:
                raise ValueError(f"rollout.{name}={getattr(self, name)} must be at least 1")
        self._check_response_limit()
        self._check_divergence()
        if not self.branching_entry.type:
            raise ValueError("rollout.branch_policy is empty; use 'even' or pkg.mod:Class")
        _ = self.sampling  # its constructor checks the four sampling fields

    @property
    def response_limit(self) -> int:
        """Most tokens of a response."""
        reachable = self.max_segments * self.segment_length
        return reachable if self.max_response_tokens is None else self.max_response_tokens

    @property
    def divergence_range(self) -> tuple[int, int]:
        """Fewest and most first segments of a prompt."""
        if self.initial_divergence is None:
            num = self.width if self.branching == 1 else min(self.branching, self.width)
            return (num, num)
        if isinstance(self.initial_divergence, int):
            return (self.initial_divergence, self.initial_divergence)
        low, high = self.initial_divergence
        return (low, high)

    @property
    def branching_entry(self) -> BranchPolicyEntry:
        """The branch policy with its settings."""
        given = self.branch_policy
        return BranchPolicyEntry(type=given) if isinstance(given, str) else given

    @property
    def is_flat(self) -> bool:
        """True if the leaves of a prompt share no segment: independent samples, no tree."""
        return self.divergence_range[0] == self.width or self.max_segments == 1

    @property
    def sampling(self) -> SamplingParams:
        """The law of the tokens, as the engine takes it."""
        return SamplingParams(
            temperature=self.temperature, top_p=self.top_p, top_k=self.top_k, min_p=self.min_p
        )

    def _check_response_limit(self) -> None:
        reachable = self.max_segments * self.segment_length
        if not 1 <= self.response_limit <= reachable:
            raise ValueError(
                f"rollout.max_response_tokens={self.max_response_tokens} is outside [1, {reachable}]; "
                f"max_segments={self.max_segments} of segment_length={self.segment_length} "
                f"reach {reachable} tokens: lower the limit or raise one of the two"
            )

    def _check_divergence(self) -> None:
        given = self.initial_divergence
        if not isinstance(given, int | None) and len(given) != 2:
            raise ValueError(f"rollout.initial_divergence={given} must be a number or [low, high]")
        low, high = self.divergence_range
        if not 1 <= low <= high:
            raise ValueError(f"rollout.initial_divergence={given} must have 1 <= low <= high")
        if high > self.width:
            raise ValueError(
                f"rollout.initial_divergence={given} exceeds rollout.width={self.width}; a prompt "
                "cannot start more paths than it may have leaves: lower it or raise width"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTask:
    """A prompt to grow a tree for."""

    prompt_id: str
    """Stable id of the prompt over epochs, ranks and restarts."""
    token_ids: Sequence[int]
    """The prompt, at least one token."""
    example: Mapping[str, Any]  # a data-set row: its columns are the user's
    """The data-set row, handed on to the rewards."""

    def __post_init__(self) -> None:
        """Check the length."""
        if not self.token_ids:
            raise ValueError(f"prompt {self.prompt_id!r} has no tokens; give it at least one (BOS)")
