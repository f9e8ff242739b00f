"""Weighted sums of several rewards, their metrics, and the stop when verifiers keep failing."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence

from rewards.base import Score, Verdict

FAILURES = frozenset((Verdict.TIMEOUT, Verdict.CRASHED, Verdict.BAD_REFERENCE))
"""Verdicts that say something about the verifier or the data, not about the model."""

Sums = dict[str, tuple[float, float]]
"""Metric name -> (numerator, denominator), so that ranks are reduced before dividing."""


class RewardFailureError(RuntimeError):
    """A reward fails so often that training on it would be training on noise."""


def weighted_sum(
    scores: Mapping[str, Sequence[Score]], weights: Mapping[str, float]
) -> list[float | None]:
    """One reward per sample: the sum of weight * value over the rewards that judged it.

    A value that is None or NaN leaves that reward out for that sample; a sample that no reward could
    judge gets None.

    Args:
        scores: Scores of each reward, by name; equally long, in the order of the samples.
        weights: Weight of each reward, the same names.

    Raises:
        ValueError: Names or lengths differ.

    Example:
        values (1.0, None) with weights (1.0, 0.5) give 1.0; (1.0, 1.0) give 1.5; (None, None) None.
    """
    if scores.keys() != weights.keys():
        raise ValueError(
            f"weights are given for {sorted(weights)}, scores for {sorted(scores)}; every reward "
            "needs exactly one weight"
        )
    lengths = {name: len(column) for name, column in scores.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"rewards scored different numbers of samples: {lengths}")
    rows = zip(*scores.values(), strict=True)
    return [_row_sum(row, [weights[name] for name in scores]) for row in rows]


def metric_sums(scores: Mapping[str, Sequence[Score]]) -> Sums:
    """Numerators and denominators of the reward metrics of one batch.

    Keys: `reward/<name>_mean`, `reward/<name>_correct_frac`, `reward/<verdict>_frac` for every
    verdict over all rewards, `reward/judge_s` (mean wall-clock seconds per judgement).
    """
    sums: Sums = {}
    for name, column in scores.items():
        values = [score.value for score in column if not _is_missing(score.value)]
        sums[f"reward/{name}_mean"] = (math.fsum(v for v in values if v is not None), len(values))
        correct = sum(score.verdict is Verdict.CORRECT for score in column)
        sums[f"reward/{name}_correct_frac"] = (correct, len(column))
    every = [score for column in scores.values() for score in column]
    counts = Counter(score.verdict for score in every)
    for verdict in Verdict:
        sums[f"reward/{verdict}_frac"] = (counts[verdict], len(every))
    sums["reward/judge_s"] = (math.fsum(score.seconds for score in every), len(every))
    return sums


def means(sums: Sums) -> dict[str, float]:
    """Divides; metrics without any sample are left out."""
    return {name: top / bottom for name, (top, bottom) in sums.items() if bottom}


class FailureMonitor:
    """Stops the run when the share of failed judgements over a window passes a limit.

    Args:
        limit_frac: Largest tolerated share of `FAILURES`, in [0, 1].
        min_samples: No decision before this many judgements of a reward.
        window: Number of latest judgements that count, at least `min_samples`.
    """

    def __init__(self, limit_frac: float = 0.2, min_samples: int = 200, window: int = 1000) -> None:
        if not 0 <= limit_frac <= 1 or not 1 <= min_samples <= window:
            raise ValueError(
                f"limit_frac={limit_frac} must lie in [0, 1] and 1 <= min_samples={min_samples} <= "
                f"window={window} must hold"
            )
        self.limit_frac = limit_frac
        self.min_samples = min_samples
        self._window = window
        self._causes: dict[str, deque[str]] = {}

    def observe(self, name: str, scores: Sequence[Score]) -> None:
        """Adds the judgements of one reward.

        Raises:
            RewardFailureError: The share passed the limit; the message names the top three causes.
        """
        causes = self._causes.setdefault(name, deque(maxlen=self._window))
        causes.extend(_cause(score) for score in scores)
        failures = Counter(cause for cause in causes if cause)
        share = failures.total() / max(1, len(causes))
        if len(causes) >= self.min_samples and share > self.limit_frac:
            top = "; ".join(f"{cause} ({count}x)" for cause, count in failures.most_common(3))
            raise RewardFailureError(
                f"reward {name!r} failed on {share:.0%} of the last {len(causes)} samples "
                f"(limit {self.limit_frac:.0%}). Top causes: {top}"
            )


def _row_sum(row: Sequence[Score], weights: Sequence[float]) -> float | None:
    terms = [
        weight * score.value
        for score, weight in zip(row, weights, strict=True)
        if score.value is not None and not math.isnan(score.value)
    ]
    return math.fsum(terms) if terms else None


def _is_missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _cause(score: Score) -> str:
    """Empty for a judgement that worked, else verdict and detail."""
    if score.verdict not in FAILURES:
        return ""
    return f"{score.verdict}: {score.detail}"[:120] if score.detail else str(score.verdict)
