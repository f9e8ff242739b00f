"""What goes into the engine and what comes out: sampling settings and decoded segments."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the next token is drawn. Default: from the model's own law."""

    temperature: float = 1.0
    """Logits are divided by it; 0 means greedy (argmax)."""
    top_p: float = 1.0
    """Keep the smallest set of tokens whose probability reaches it, in (0, 1]; 1 = off."""
    top_k: int = 0
    """Keep the k most probable tokens; 0 = off."""
    min_p: float = 0.0
    """Drop tokens less probable than min_p times the most probable one, in [0, 1); 0 = off."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0.0 <= self.temperature <= 100.0:
            raise ValueError(f"temperature={self.temperature} is outside [0, 100]; 0 is greedy")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p={self.top_p} is outside (0, 1]; 1 turns it off")
        if self.top_k < 0:
            raise ValueError(f"top_k={self.top_k} is negative; 0 turns it off")
        if not 0.0 <= self.min_p < 1.0:
            raise ValueError(f"min_p={self.min_p} is outside [0, 1); 0 turns it off")


class StopCause(StrEnum):
    """Why the engine stopped drawing tokens for a request."""

    LENGTH = "length"
    """`max_new_tokens` were drawn."""
    STOP_TOKEN = "stop_token"
    """A stop token was drawn; it is the last token of the segment."""
    CANCELLED = "cancelled"
    """The caller cancelled the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedSegment:
    """Tokens drawn for one request on one path. All lists have the same length (at least 1).

    Alignment: `logprobs[t]` belongs to `token_ids[t]` itself. Everything is float32, in nats.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Raw log-prob: full vocabulary, at the sampling temperature (temperature 0: at temperature 1)."""
    behaviour_logprobs: tuple[float, ...]
    """Log-prob under the law actually drawn from, after top-k, top-p, min-p (0 for greedy)."""
    entropies: tuple[float, ...]
    """Entropy of the raw law."""
    cause: StopCause
    policy_version: int
