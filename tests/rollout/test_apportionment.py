"""Splitting by scores: TreePO's allocation examples, sums, ties, refusals."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.apportionment import largest_remainder, softmax_weights, split_by_scores

SCORES = (-0.2, -0.5, -1.1)


@pytest.mark.parametrize(
    ("sign", "temperature", "weights", "children"),
    [
        (-1, 2.0, (0.268086, 0.311471, 0.420443), [2, 3, 3]),
        (+1, 2.0, (0.400266, 0.344512, 0.255221), [3, 3, 2]),
        (-1, 1.0, (0.207923, 0.280667, 0.511409), [2, 2, 4]),
        (+1, 1.0, (0.465682, 0.344986, 0.189332), [3, 3, 2]),
        (-1, 0.25, (0.024439, 0.081140, 0.894421), [1, 1, 6]),
    ],
)
def test_worked_examples(
    sign: int, temperature: float, weights: tuple[float, ...], children: list[int]
) -> None:
    scores = [sign * score for score in SCORES]
    assert softmax_weights(scores, temperature) == pytest.approx(weights, abs=1e-6)
    assert split_by_scores(scores, 8, temperature) == children


@given(
    scores=st.lists(st.floats(-50, 50), min_size=1, max_size=12),
    spare=st.integers(0, 40),
    temperature=st.floats(0.01, 100),
)
def test_a_split_uses_everything_and_orders_like_the_scores(
    scores: list[float], spare: int, temperature: float
) -> None:
    children = split_by_scores(scores, len(scores) + spare, temperature)
    assert sum(children) == len(scores) + spare
    assert min(children) >= 1
    by_score = [num for _, num in sorted(zip(scores, children, strict=True))]
    assert all(b >= a - 1 for a, b in pairwise(by_score))


def test_remainders_go_to_the_largest_fraction_and_ties_to_the_first() -> None:
    assert largest_remainder([0.5, 0.3, 0.2], 4) == [2, 1, 1]
    assert largest_remainder([0.25] * 4, 6) == [2, 2, 1, 1]
    assert largest_remainder([1.0], 0) == [0]


def test_impossible_scores() -> None:
    assert softmax_weights([-math.inf, -math.inf], 1.0) == [0.5, 0.5]
    assert softmax_weights([-math.inf, 0.0], 1.0) == [0.0, 1.0]
    with pytest.raises(ValueError, match="must be numbers below infinity"):
        softmax_weights([math.nan, 0.0], 1.0)
    with pytest.raises(ValueError, match=r"temperature=0.0 must be positive"):
        softmax_weights([0.0], 0.0)
    with pytest.raises(ValueError, match="2 children cannot give one to each of 3 paths"):
        split_by_scores([0.0] * 3, 2, 1.0)
