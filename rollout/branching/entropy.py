"""Branching by entropy: more children for paths whose last segment ends in doubt.

The score is the mean entropy (nats) of the law at the sampled tokens of the last segment, or at its
last `tail_tokens` of them; weight = softmax(score/T); one child each, the rest by largest remainder.
In the spirit of entropy-driven forks (TreeAdv, arXiv 2601.03703), but on TreePO's budget and at
segment boundaries only. Untested by TreePO, whose log-prob heuristics lost to even splitting; `even`
stays the default.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rollout.apportionment import split_by_scores
from rollout.branching.base import ResponsePath, branch_budget
from rollout.tree import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropyBranchingConfig:
    """Which tokens count and how sharply."""

    measure: Literal["mean", "tail"] = "mean"
    """mean: all sampled tokens of the last segment; tail: its last `tail_tokens` ones."""
    tail_tokens: int = 8
    """Tokens of the tail, at least 1; shorter segments count whole."""
    temperature: float = 0.5
    """T of the softmax in nats, positive; large values approach even splitting."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.measure not in ("mean", "tail"):
            raise ValueError(f"measure={self.measure!r} is unknown; expected mean or tail")
        if self.tail_tokens < 1:
            raise ValueError(f"tail_tokens={self.tail_tokens} must be at least 1")
        if not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature} must be positive")


class EntropyBranching:
    """Gives more children to paths at which the policy is uncertain."""

    def __init__(self, branching: int, config: EntropyBranchingConfig) -> None:
        self._branching = branching
        self._config = config

    def allocate(
        self,
        stopped: Sequence[ResponsePath],
        active: Sequence[ResponsePath],
        remaining: int,
        rng: random.Random,
    ) -> list[int]:
        """Children of each active path; see `BranchPolicy.allocate`."""
        del rng  # part of the contract; the split is a function of the scores
        total = branch_budget(
            remaining=remaining,
            num_stopped=len(stopped),
            num_active=len(active),
            branching=self._branching,
        )
        tail = self._config.tail_tokens if self._config.measure == "tail" else None
        scores = [mean_entropy(path[-1], tail) for path in active]
        return split_by_scores(scores, total, self._config.temperature)


def mean_entropy(segment: Segment, tail: int | None = None) -> float:
    """Mean entropy in nats of the last `tail` sampled tokens (None: all); 0 without any."""
    entropies = [
        entropy
        for entropy, is_sampled in zip(segment.entropies, segment.sampled, strict=True)
        if is_sampled
    ]
    counted = entropies if tail is None else entropies[-tail:]
    return sum(counted) / (len(counted) or 1)


POLICY = EntropyBranching
