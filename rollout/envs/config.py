"""Section `rollout.env` of a recipe: which environment, and its limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvConfig:
    """The environment that paths act in, and what it may use."""

    type: str
    """Module of rollout/envs, or pkg.mod:Class."""
    options: Mapping[str, Any] = field(default_factory=dict)  # fields of the environment's Config
    """Configuration of the environment, checked against its Config class."""
    max_turns: int = 16
    """Most environment steps of a response; the path ends there unless the episode is over."""
    max_observation_tokens: int = 512
    """Longest observation in tokens, its frame included; the rest is cut and marked."""
    step_timeout_s: float = 10.0
    """Wall-clock limit of one step (restoring the state included), in seconds."""
    num_threads: int = 16
    """Steps that run at the same time."""
    piece_tokens: int = 32
    """Tokens asked for at a time while looking for the end of an action. Changes no result: what is
    drawn beyond the end is thrown away, at most piece_tokens - 1 tokens per action."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("max_turns", "max_observation_tokens", "num_threads", "piece_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"rollout.env.{name}={getattr(self, name)} must be at least 1")
        if not 0 < self.step_timeout_s < float("inf"):
            raise ValueError(
                f"rollout.env.step_timeout_s={self.step_timeout_s} must be positive and finite"
            )
        if not self.type:
            raise ValueError("rollout.env.type is empty; name a module of rollout/envs")
