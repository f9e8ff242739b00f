"""Two calls for all randomness: counter-based for decoding, replayed for enumeration."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.philox import path_key, uniforms
from inference.speculative.random_source import (
    PhiloxSource,
    RandomSource,
    enumerate_outcomes,
    inverse_cdf,
    weighted_runs,
)


def test_enumeration_finds_every_outcome_with_its_probability() -> None:
    def run(rng: RandomSource) -> tuple[int, bool]:
        index = rng.categorical(np.array([0.2, 0.0, 0.8]))
        return index, rng.bernoulli(0.25) if index else False

    law = enumerate_outcomes(run)
    assert law == pytest.approx({(0, False): 0.2, (2, False): 0.6, (2, True): 0.2})


def test_certain_answers_are_not_branched() -> None:
    runs = list(weighted_runs(lambda rng: (rng.bernoulli(0.0), rng.bernoulli(1.0))))
    assert runs == [((False, True), 1.0)]


def test_a_run_without_choices_is_one_outcome() -> None:
    assert enumerate_outcomes(lambda rng: "x") == {"x": 1.0}


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6), st.floats(0.0, 1.0, exclude_max=True))
def test_inverse_cdf_returns_the_first_index_above_and_never_an_impossible_one(
    weights: list[float], uniform: float
) -> None:
    probs = np.array([*weights, 0.5])
    index = inverse_cdf(probs, uniform)
    cumulative = np.cumsum(probs)
    target = uniform * cumulative[-1]
    assert probs[index] > 0.0
    assert cumulative[index] > target
    assert index == 0 or cumulative[index - 1] <= target


def test_inverse_cdf_skips_trailing_zeros_at_the_very_end() -> None:
    assert inverse_cdf(np.array([0.5, 0.5, 0.0]), math.nextafter(1.0, 0.0)) == 1


def test_philox_numbers_depend_on_key_step_and_purpose_only() -> None:
    first = [PhiloxSource(7, 3, "draft").uniform() for _ in range(2)]
    assert first[0] == first[1]
    others = [
        PhiloxSource(8, 3, "draft"),
        PhiloxSource(7, 4, "draft"),
        PhiloxSource(7, 3, "accept"),
    ]
    assert len({first[0], *(source.uniform() for source in others)}) == 4


def test_a_philox_source_walks_through_its_stream() -> None:
    source = PhiloxSource(7, 3, "accept")
    found = [source.uniform() for _ in range(70)]
    key = path_key("speculative", 7, 3, "accept")
    assert found == uniforms([key] * 70, list(range(70))).tolist()


def test_philox_frequencies_are_those_asked_for() -> None:
    source = PhiloxSource(1, 0, "draft")
    num = 20_000
    drawn = np.bincount(
        [source.categorical(np.array([0.5, 0.3, 0.2])) for _ in range(num)], minlength=3
    )
    yes = sum(source.bernoulli(0.3) for _ in range(num))
    # five standard deviations of a frequency near 1/2
    assert np.abs(drawn / num - [0.5, 0.3, 0.2]).max() < 5 * 0.5 / num**0.5
    assert abs(yes / num - 0.3) < 5 * 0.5 / num**0.5
