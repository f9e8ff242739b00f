"""Path and Request: the caller's handle on a run of tokens, and the wish for more of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from inference.kv.cache import Node
from inference.requests import DecodedSegment, SamplingParams, StopCause


@dataclass(eq=False, slots=True)
class Path:
    """Handle on the tokens from a root to a tip; made by `Engine.open` and `Engine.fork`."""

    tip: Node
    is_open: bool = True

    @property
    def length(self) -> int:
        """Number of tokens, prompt included."""
        return self.tip.end

    @property
    def token_ids(self) -> list[int]:
        """All tokens, prompt included."""
        return self.tip.path_token_ids()


@dataclass(eq=False, slots=True, kw_only=True)
class Request:
    """A submitted wish for new tokens on one path, and what was drawn for it so far."""

    path: Path
    max_new_tokens: int
    sampling: SamplingParams
    stop_token_ids: frozenset[int]
    key: int
    row: int | None = None
    """Row of the slot table while running, None while waiting."""
    filled: int = 0
    """Leading positions of the path whose slots are in the slot table."""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    behaviour_logprobs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)

    def record(self, token_id: int, logprob: float, behaviour: float, entropy: float) -> None:
        """Remember one drawn token and its statistics."""
        self.token_ids.append(token_id)
        self.logprobs.append(logprob)
        self.behaviour_logprobs.append(behaviour)
        self.entropies.append(entropy)

    def cause(self) -> StopCause | None:
        """Return why the request ends after its newest token, None if it goes on."""
        if self.token_ids[-1] in self.stop_token_ids:
            return StopCause.STOP_TOKEN
        return StopCause.LENGTH if len(self.token_ids) == self.max_new_tokens else None

    def segment(self, cause: StopCause, policy_version: int) -> DecodedSegment:
        """Return what was drawn as a result."""
        return DecodedSegment(
            token_ids=tuple(self.token_ids),
            logprobs=tuple(self.logprobs),
            behaviour_logprobs=tuple(self.behaviour_logprobs),
            entropies=tuple(self.entropies),
            cause=cause,
            policy_version=policy_version,
        )
