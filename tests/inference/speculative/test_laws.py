"""Residuals and acceptance of one proposal."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.speculative.laws import (
    POINT,
    Probs,
    RowLaw,
    accept_prob,
    after_rejection,
    entropy,
    expected_chain_tokens,
    overlap,
    without,
)


@st.composite
def laws(draw: st.DrawFn, size: int = 5) -> Probs:
    """Random laws, zeros included."""
    weights = draw(st.lists(st.integers(0, 20), min_size=size, max_size=size))
    values = np.array(weights, dtype=np.float64)
    values[draw(st.integers(0, size - 1))] += 1.0
    return values / values.sum()


@given(laws(), laws())
def test_one_judged_draw_has_the_target_law(target: Probs, row: Probs) -> None:
    law = RowLaw(row)
    emitted = np.zeros_like(target)
    for token in np.flatnonzero(row):
        accepted = accept_prob(target, int(token), law)
        emitted[token] += row[token] * accepted
        emitted += row[token] * (1.0 - accepted) * after_rejection(target, int(token), law)
    assert np.abs(emitted - target).max() < 1e-12


@given(laws(), st.integers(0, 4))
def test_one_judged_point_mass_has_the_target_law(target: Probs, token: int) -> None:
    accepted = accept_prob(target, token, POINT)
    emitted = (1.0 - accepted) * after_rejection(target, token, POINT)
    emitted[token] += accepted
    assert np.abs(emitted - target).max() < 1e-12


@given(laws(), laws())
def test_a_draw_is_accepted_with_the_overlap(target: Probs, row: Probs) -> None:
    accepted = sum(row[t] * accept_prob(target, t, RowLaw(row)) for t in range(5))
    assert accepted == pytest.approx(overlap(target, row), abs=1e-12)
    assert overlap(target, row) == pytest.approx(1.0 - 0.5 * np.abs(target - row).sum(), abs=1e-12)


def test_an_empty_residual_is_kept_as_it_was() -> None:
    law = np.array([0.5, 0.5])
    assert after_rejection(law, 0, RowLaw(law)) is law
    assert after_rejection(np.array([1.0, 0.0]), 0, POINT).tolist() == [1.0, 0.0]


def test_nothing_is_left_when_all_tokens_are_taken() -> None:
    assert without(np.array([0.5, 0.5]), (0, 1)).tolist() == [0.0, 0.0]
    assert RowLaw(np.array([0.5, 0.2, 0.1, 0.2]), (0,)).probs == pytest.approx([0, 0.4, 0.2, 0.4])


@pytest.mark.parametrize(
    ("accept", "length", "ratio", "tokens", "speedup"),
    [(0.8, 4, 0.1, 3.3616, 2.4011), (0.6, 4, 0.1, 2.3056, 1.6469), (0.9, 8, 0.05, None, 4.3756)],
)
def test_chains_emit_the_computed_number_of_tokens(
    accept: float, length: int, ratio: float, tokens: float | None, speedup: float
) -> None:
    found = expected_chain_tokens(accept, length)
    assert tokens is None or found == pytest.approx(tokens, abs=1e-9)
    assert found / (length * ratio + 1.0) == pytest.approx(speedup, abs=6e-5)
    assert expected_chain_tokens(1.0, 3) == 4.0


def test_entropy_is_in_nats() -> None:
    assert entropy(np.array([0.5, 0.25, 0.125, 0.125])) == pytest.approx(1.213008, abs=1e-6)
    assert entropy(np.array([1.0, 0.0])) == 0.0
