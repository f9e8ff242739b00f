"""The sampler against worked numbers, a float64 reference, and its own law."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.requests import SamplingParams
from inference.sampling import Draws, SamplingRows, inverse_cdf, kept_tokens, sample

FOUR = torch.tensor([[2.0, 1.0, 0.0, -1.0]])


def draw(logits: torch.Tensor, uniform: float, **params: float) -> Draws:
    rows = len(logits)
    return sample(
        logits,
        [SamplingParams(**params)] * rows,  # type: ignore[arg-type]  # top_k is an int
        np.full(rows, uniform),
    )


@pytest.mark.parametrize(
    ("uniform", "token", "logprob"),
    [
        (0.0, 0, -0.44019),
        (0.70, 1, -1.44019),
        (0.9, 2, -2.44019),
        (0.97, 3, -3.44019),
        (1 - 2**-53, 3, -3.44019),
    ],
)
def test_worked_example_at_temperature_one(uniform: float, token: int, logprob: float) -> None:
    draws = draw(FOUR, uniform)
    assert draws.token_ids.tolist() == [token]
    assert draws.logprobs[0] == pytest.approx(logprob, abs=1e-5)
    assert draws.behaviour_logprobs[0] == draws.logprobs[0]
    assert draws.entropies[0] == pytest.approx(0.947537, abs=1e-5)


@pytest.mark.parametrize(
    ("uniform", "logprob"), [(0.5, -0.145078), (0.9, -2.145078), (0.99, -4.145078)]
)
def test_worked_example_at_temperature_one_half(uniform: float, logprob: float) -> None:
    draws = draw(FOUR, uniform, temperature=0.5)
    assert draws.logprobs[0] == pytest.approx(logprob, abs=1e-5)
    assert draws.entropies[0] == pytest.approx(0.455429, abs=1e-5)


@pytest.mark.parametrize(
    ("uniform", "raw", "behaviour"),
    [(0.1, -0.44019, -0.407606), (0.7, -1.44019, -1.407606), (0.999999, -2.44019, -2.407606)],
)
def test_worked_example_with_top_p(uniform: float, raw: float, behaviour: float) -> None:
    draws = draw(FOUR, uniform, top_p=0.9)
    assert draws.logprobs[0] == pytest.approx(raw, abs=1e-5)
    assert draws.behaviour_logprobs[0] == pytest.approx(behaviour, abs=1e-5)
    assert draws.entropies[0] == pytest.approx(0.947537, abs=1e-5)


def test_temperature_zero_takes_the_maximum_and_reports_temperature_one() -> None:
    draws = draw(FOUR.flip(1), 0.999, temperature=0.0)
    assert draws.token_ids.tolist() == [3]
    assert draws.logprobs[0] == pytest.approx(-0.44019, abs=1e-5)
    assert draws.behaviour_logprobs[0] == 0.0
    assert draws.entropies[0] == pytest.approx(0.947537, abs=1e-5)


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        ({"top_k": 2}, [0, 1]),
        ({"top_p": 0.6439}, [0]),
        ({"top_p": 0.6440}, [0, 1]),
        ({"top_p": 1e-6}, [0]),
        ({"min_p": 0.2}, [0, 1]),
        ({"min_p": 0.999}, [0]),
        ({"top_k": 3, "top_p": 0.9}, [0, 1]),  # renormalised: 0.665, 0.910
        ({"top_k": 3, "top_p": 0.95}, [0, 1, 2]),
        ({"top_k": 99}, [0, 1, 2, 3]),
        ({}, [0, 1, 2, 3]),
    ],
)
def test_filters_keep_the_tokens_computed_by_hand(
    params: dict[str, float], kept: list[int]
) -> None:
    rows = SamplingRows.of([SamplingParams(**params)], FOUR.device)  # type: ignore[arg-type]  # int
    assert torch.nonzero(kept_tokens(FOUR.softmax(-1), rows)[0]).flatten().tolist() == kept


def test_ties_at_the_border_of_top_k_go_to_the_lower_token() -> None:
    rows = SamplingRows.of([SamplingParams(top_k=2)], FOUR.device)
    assert kept_tokens(torch.tensor([[0.2, 0.4, 0.2, 0.2]]), rows).tolist() == [
        [True, True, False, False]
    ]


def test_a_token_with_logit_minus_infinity_is_never_drawn() -> None:
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]])
    tokens = {int(draw(logits, u).token_ids[0]) for u in (0.0, 0.3, 0.5, 1 - 2**-53)}
    assert tokens == {1, 3}
    assert draw(logits, 0.3).entropies[0] == pytest.approx(math.log(2.0), abs=1e-6)


def test_a_one_hot_law_has_entropy_zero() -> None:
    logits = torch.full((1, 300), -math.inf)
    logits[0, 129] = 3.0
    draws = draw(logits, 0.5)
    assert (draws.token_ids[0], draws.logprobs[0], draws.entropies[0]) == (129, 0.0, 0.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_logits_raise(bad: float) -> None:
    with pytest.raises(FloatingPointError, match="NaN"):
        draw(torch.tensor([[0.0, bad]]), 0.5)
    with pytest.raises(FloatingPointError):
        draw(torch.full((1, 3), -math.inf), 0.5)


def test_several_requests_draw_from_one_row_of_logits() -> None:
    draws = sample(FOUR, [SamplingParams()] * 3, np.array([0.1, 0.7, 0.9]), source_R=[0, 0, 0])
    assert draws.token_ids.tolist() == [0, 1, 2]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 700), st.integers(0, 2**32 - 1), st.floats(0, 1, exclude_max=True), st.booleans()
)
def test_the_two_level_search_agrees_with_a_plain_cumulative_sum(
    vocabulary: int, seed: int, uniform: float, sparse: bool
) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.random(vocabulary).astype(np.float32)
    if sparse:
        weights *= rng.random(vocabulary) < 0.1
    weights[rng.integers(vocabulary)] += 1e-3
    token = int(inverse_cdf(torch.tensor(weights)[None], torch.tensor([uniform]).double())[0])
    cumulative = np.cumsum(weights.astype(np.float64))
    target = uniform * cumulative[-1]
    slack = 1e-6 * cumulative[-1]  # sums of blocks are float32
    assert weights[token] > 0
    assert cumulative[token] >= target - slack
    assert cumulative[token] - weights[token] <= target + slack


def test_the_end_of_the_interval_gives_the_last_token_with_weight() -> None:
    weights = torch.zeros(1, 1000)
    weights[0, 3] = 1.0
    weights[0, 500] = 1e-7
    assert inverse_cdf(weights, torch.tensor([1.0]).double()).tolist() == [500]


@pytest.mark.parametrize("vocabulary", [200, 256, 1000])
def test_drawn_frequencies_follow_the_law(vocabulary: int) -> None:
    num = 100_000
    logits = torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(1)) * 1.5
    rng = np.random.default_rng(2)
    draws = sample(logits, [SamplingParams()] * num, rng.random(num), source_R=[0] * num)
    expected = logits.double().softmax(-1).numpy()[0] * num
    observed = np.bincount(draws.token_ids, minlength=vocabulary)
    chi_square = ((observed - expected) ** 2 / expected).sum()
    # mean V-1, variance 2(V-1) + sum(1/expected) terms, bounded by 2(V-1) + V/min(expected)
    variance = 2 * (vocabulary - 1) + (1 / expected).sum()
    assert chi_square < vocabulary - 1 + 5 * variance**0.5


def test_mixed_rows_equal_the_rows_alone_and_a_float64_reference() -> None:
    logits = torch.randn(6, 777, generator=torch.Generator().manual_seed(3)) * 3
    params = [
        SamplingParams(),
        SamplingParams(temperature=0.7, top_p=0.8),
        SamplingParams(temperature=0.0),
        SamplingParams(top_k=5),
        SamplingParams(min_p=0.1, temperature=1.3),
        SamplingParams(temperature=0.3),
    ]
    uniform = np.linspace(0.05, 0.95, 6)
    together = sample(logits, params, uniform)
    for row in range(6):
        alone = sample(logits[row : row + 1], [params[row]], uniform[row : row + 1])
        token = int(alone.token_ids[0])
        assert together.token_ids[row] == token
        assert together.behaviour_logprobs[row] == alone.behaviour_logprobs[0]
        law = (logits[row].double() / (params[row].temperature or 1.0)).softmax(-1)
        assert together.logprobs[row] == pytest.approx(float(law[token].log()), abs=2e-6)
        assert together.entropies[row] == pytest.approx(float(-(law * law.log()).sum()), abs=1e-5)


def test_half_precision_logits_are_widened_before_statistics() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]], dtype=torch.bfloat16)
    assert draw(logits, 0.7).logprobs[0] == pytest.approx(-1.44019, abs=1e-5)
