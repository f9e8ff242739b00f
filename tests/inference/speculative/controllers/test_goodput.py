"""Goodput choice against its worked numbers and exhaustive search."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.speculative.controllers.goodput import (
    AcceptanceMeter,
    DraftLoad,
    GoodputCosts,
    choose_lengths,
    expected_goodput,
    step_seconds,
    survival,
)
from inference.speculative.controllers.step_cost import CostMeter, StepCost

COSTS = GoodputCosts(
    target=StepCost(base_s=12e-3, token_s=1.5e-3, context_s=2e-6),
    drafter=StepCost(base_s=1e-3, token_s=0.1e-3, context_s=0.2e-6),
)
LOADS = [
    DraftLoad(context, (accept,) * 8) for context, accept in ((400, 0.9), (900, 0.6), (250, 0.3))
]


def test_uniform_lengths_have_the_computed_goodput() -> None:
    found = [expected_goodput(LOADS, [k] * 3, COSTS) for k in range(6)]
    assert found == pytest.approx([153.06, 186.70, 190.45, 185.39, 177.70, 169.42], abs=6e-3)


def test_lengths_per_request_are_the_computed_ones() -> None:
    best = choose_lengths(LOADS, COSTS)
    assert best.lengths == (5, 1, 0)
    assert best.goodput == pytest.approx(209.48, abs=6e-3)
    assert step_seconds(LOADS, best.lengths, COSTS) == pytest.approx(34.78e-3, abs=6e-6)
    tokens = best.goodput * step_seconds(LOADS, best.lengths, COSTS)
    assert tokens == pytest.approx(7.2856, abs=6e-5)
    assert expected_goodput(LOADS, (6, 1, 0), COSTS) == pytest.approx(208.68, abs=6e-3)


@pytest.mark.parametrize(
    ("copies", "lengths", "goodput", "uniform"),
    [(4, (4, 1, 0), 333.1, (1, 300.8)), (16, (3, 0, 0), 400.6, (0, 359.3))],
)
def test_under_load_drafts_get_shorter_and_end(
    copies: int, lengths: tuple[int, ...], goodput: float, uniform: tuple[int, float]
) -> None:
    loads = [load for load in LOADS for _ in range(copies)]
    best = choose_lengths(loads, COSTS)
    assert best.lengths == tuple(length for length in lengths for _ in range(copies))
    assert best.goodput == pytest.approx(goodput, abs=0.06)
    same = [expected_goodput(loads, [k] * len(loads), COSTS) for k in range(9)]
    assert int(np.argmax(same)) == uniform[0]
    assert max(same) == pytest.approx(uniform[1], abs=0.06)


def test_no_draft_has_the_computed_goodput_under_load() -> None:
    loads = LOADS * 4
    assert expected_goodput(loads, [0] * 12, COSTS) == pytest.approx(283.0, abs=0.06)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 2000), st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3)),
        min_size=1,
        max_size=3,
    ),
    st.floats(0.0, 3e-3),
)
def test_the_promised_goodput_is_that_of_the_chosen_lengths(
    requests: list[tuple[int, list[float]]], token_s: float
) -> None:
    costs = GoodputCosts(
        target=StepCost(base_s=1e-2, token_s=token_s, context_s=1e-6), drafter=None
    )
    loads = [DraftLoad(context, probs) for context, probs in requests]
    best = choose_lengths(loads, costs)
    assert best.goodput == pytest.approx(expected_goodput(loads, best.lengths, costs))
    every = itertools.product(range(4), repeat=len(loads))
    exhaustive = max(expected_goodput(loads, lengths, costs) for lengths in every)
    # without drafter costs all slots cost the same, so the greedy order is optimal
    assert best.goodput == pytest.approx(exhaustive)


def test_exhaustive_search_agrees_in_the_worked_example() -> None:
    every = itertools.product(range(9), repeat=3)
    best = max(every, key=lambda lengths: expected_goodput(LOADS, lengths, COSTS))
    assert best == choose_lengths(LOADS, COSTS).lengths


def test_no_requests_is_no_choice() -> None:
    assert choose_lengths([], COSTS).lengths == ()
    assert survival([]) == []


def test_the_cost_fit_finds_the_coefficients() -> None:
    meter = CostMeter()
    rng = np.random.default_rng(0)
    for tokens, context in rng.integers(1, 2000, size=(50, 2)):
        meter.observe(float(tokens), float(context), COSTS.target.seconds(tokens, context))
    fit = meter.fit()
    assert fit is not None
    found = (fit.base_s, fit.token_s, fit.context_s)
    assert found == pytest.approx((12e-3, 1.5e-3, 2e-6), rel=1e-6)


def test_the_cost_fit_needs_three_steps_and_never_pays_for_tokens() -> None:
    meter = CostMeter()
    assert meter.fit() is None
    for tokens, seconds in ((1.0, 3.0), (2.0, 2.0), (3.0, 1.0)):
        meter.observe(tokens, 100.0, seconds)
    fit = meter.fit()
    assert fit is not None
    assert (fit.base_s, fit.token_s, fit.context_s) == pytest.approx((2.0, 0.0, 0.0))


def test_acceptance_follows_what_is_seen_per_position() -> None:
    meter = AcceptanceMeter(max_length=3, decay=0.5)
    assert meter.accept_probs == (0.7, 0.7, 0.7)
    meter.observe(num_drafted=3, num_accepted=1)
    assert meter.accept_probs == pytest.approx((0.85, 0.35, 0.7))


def test_after_32_idle_steps_one_token_is_worth_a_try() -> None:
    meter = AcceptanceMeter(max_length=4)
    for _ in range(31):
        meter.observe(0, 0)
    assert not meter.needs_refresh
    meter.observe(0, 0)
    assert meter.needs_refresh
    meter.observe(1, 0)
    assert not meter.needs_refresh
