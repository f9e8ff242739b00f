"""Splitting a number of children by scores: softmax weights, largest remainder, at least one each."""

from __future__ import annotations

import math
from collections.abc import Sequence


def split_by_scores(scores: Sequence[float], total: int, temperature: float) -> list[int]:
    """`total` children over the paths: one each, the rest in proportion to softmax(scores / T).

    Args:
        scores: One per path, finite or -inf; larger gets more.
        total: Children to give, at least `len(scores)`.
        temperature: T, positive; large values approach an even split.

    Raises:
        ValueError: `total` does not reach for one child each, or a score is NaN or +inf.

    Example: scores 0.2, 0.5, 1.1 with total 8: T = 2 -> 2, 3, 3; T = 1 -> 2, 2, 4; T = 0.25 -> 1, 1, 6.
    """
    if total < len(scores):
        raise ValueError(f"{total} children cannot give one to each of {len(scores)} paths")
    weights = softmax_weights(scores, temperature)
    return [1 + extra for extra in largest_remainder(weights, total - len(scores))]


def softmax_weights(scores: Sequence[float], temperature: float) -> list[float]:
    """softmax(scores / temperature); equal weights if all scores are -inf.

    Raises:
        ValueError: The temperature is not positive, or a score is NaN or +inf.
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} must be positive; TreePO uses 2")
    if any(math.isnan(score) or score == math.inf for score in scores):
        raise ValueError(f"branching scores {list(scores)} must be numbers below infinity")
    largest = max(scores)
    if largest == -math.inf:
        return [1.0 / len(scores)] * len(scores)
    powers = [math.exp((score - largest) / temperature) for score in scores]
    return [power / math.fsum(powers) for power in powers]


def largest_remainder(weights: Sequence[float], total: int) -> list[int]:
    """Non-negative integers near `weights * total` that sum to `total` (Hamilton's method).

    Each gets the integer part of its quota; what is left goes to the largest fractions, ties to the
    earlier one. Weights sum to 1.

    Example: 0.5, 0.3, 0.2 of 4 -> quotas 2, 1.2, 0.8 -> 2, 1, 1.
    """
    quotas = [weight * total for weight in weights]
    parts = [math.floor(quota) for quota in quotas]
    by_fraction = sorted(range(len(quotas)), key=lambda i: (parts[i] - quotas[i], i))
    for index in by_fraction[: total - sum(parts)]:
        parts[index] += 1
    return parts
