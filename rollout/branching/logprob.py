"""Branching by log-prob: more children for paths that the policy finds unlikely, or likely.

TreePO, arXiv 2508.17445: s = mean log-prob of the last segment; weight = softmax(-s/T) ("low-prob
encourage") or softmax(s/T); one child each, the rest by largest remainder; T = 2. The paper found
both worse than even splitting: favouring low log-probs lengthens responses and raises entropy
without a gain, favouring high ones comes second. `even` is the default; these are for experiments.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rollout.apportionment import split_by_scores
from rollout.branching.base import ResponsePath, branch_budget

Favour = Literal["low", "high"]
Reduction = Literal["mean", "sum"]
Scope = Literal["segment", "path"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogprobBranchingConfig:
    """Which paths get more children."""

    favour: Favour = "low"
    """low: unlikely paths (exploration); high: likely ones."""
    temperature: float = 2.0
    """T of the softmax, positive; large values approach even splitting."""
    reduction: Reduction = "mean"
    """Mean or sum of the token log-probs."""
    scope: Scope = "segment"
    """segment: the last segment; path: all sampled tokens of the path."""

    def __post_init__(self) -> None:
        """Check the range and the choices."""
        check_choices(favour=self.favour, reduction=self.reduction, scope=self.scope)
        if not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature} must be positive; TreePO uses 2")


class LogprobBranching:
    """Gives more children to paths with low (or high) log-probs."""

    def __init__(self, branching: int, config: LogprobBranchingConfig) -> None:
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
        sign = -1.0 if self._config.favour == "low" else 1.0
        scores = [
            sign * logprob_score(path, self._config.reduction, self._config.scope)
            for path in active
        ]
        return split_by_scores(scores, total, self._config.temperature)


def logprob_score(path: ResponsePath, reduction: Reduction, scope: Scope) -> float:
    """Mean or sum of the log-probs (nats) of the sampled tokens of the last segment or the path."""
    segments = path[-1:] if scope == "segment" else path
    logprobs = [
        logprob
        for segment in segments
        for logprob, is_sampled in zip(segment.logprobs, segment.sampled, strict=True)
        if is_sampled
    ]
    return sum(logprobs) / (len(logprobs) or 1) if reduction == "mean" else sum(logprobs)


def check_choices(*, favour: str, reduction: str, scope: str) -> None:
    """Refuse words outside `Favour`, `Reduction` and `Scope`.

    Raises:
        ValueError: Names the word and what is allowed.
    """
    for name, given, allowed in (
        ("favour", favour, ("low", "high")),
        ("reduction", reduction, ("mean", "sum")),
        ("scope", scope, ("segment", "path")),
    ):
        if given not in allowed:
            raise ValueError(f"{name}={given!r} is unknown; expected {' or '.join(allowed)}")


POLICY = LogprobBranching
