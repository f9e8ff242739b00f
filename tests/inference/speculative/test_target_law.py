"""Processed laws are those of plain decoding."""

import numpy as np
import pytest
import torch

from inference.requests import SamplingParams
from inference.sampling import sample
from inference.speculative.target_law import ensemble_target, processed_laws
from tests.markov_pair import DRAFT, TARGET

SETTINGS = [
    SamplingParams(),
    SamplingParams(temperature=0.6),
    SamplingParams(temperature=1.7, top_k=3),
    SamplingParams(top_p=0.7),
    SamplingParams(min_p=0.3),
    SamplingParams(temperature=0.8, top_k=5, top_p=0.8, min_p=0.1),
    SamplingParams(temperature=0.0),
]


@pytest.mark.parametrize("sampling", SETTINGS)
def test_a_law_gives_the_behaviour_log_prob_of_plain_decoding(sampling: SamplingParams) -> None:
    logits = torch.randn(64, 11, generator=torch.Generator().manual_seed(0))
    laws = processed_laws(logits, sampling)
    draws = sample(logits, [sampling] * 64, np.linspace(0.0, 0.999, 64))
    found = np.log(laws[np.arange(64), draws.token_ids])
    assert np.abs(found - draws.behaviour_logprobs).max() < 1e-5  # float32 logarithms
    assert np.abs(laws.sum(-1) - 1.0).max() < 1e-12


def test_filters_are_applied_one_after_the_other() -> None:
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.1]], dtype=torch.float64).log()
    top_k = processed_laws(logits, SamplingParams(top_k=2))
    both = processed_laws(logits, SamplingParams(top_k=3, top_p=0.7))
    assert top_k[0] == pytest.approx([4 / 7, 3 / 7, 0, 0])
    # top-p counts in the renormalised rest: 4/9 + 3/9 = 0.778 reaches 0.7
    assert both[0] == pytest.approx([4 / 7, 3 / 7, 0, 0])


def test_greedy_ties_go_to_the_lowest_token() -> None:
    laws = processed_laws(torch.tensor([[1.0, 3.0, 3.0]]), SamplingParams(temperature=0.0))
    assert laws.tolist() == [[0.0, 1.0, 0.0]]


def test_half_precision_is_converted_before_the_softmax() -> None:
    logits = torch.tensor([[1.0, 2.0, 4.0]])
    half = processed_laws(logits.bfloat16(), SamplingParams(temperature=0.7))
    assert half == pytest.approx(processed_laws(logits, SamplingParams(temperature=0.7)))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nan_logits_are_refused(temperature: float) -> None:
    with pytest.raises(FloatingPointError, match="NaN"):
        processed_laws(torch.tensor([[float("nan"), 1.0]]), SamplingParams(temperature=temperature))


def test_the_ensemble_is_the_published_acceptance_and_residual() -> None:
    """One draft token: accept min(1, 1 - w + w p/q), residual norm((p - q)+), is exact for the mixture."""
    target, draft, weight = TARGET[0], DRAFT[0], 0.3
    mixture = ensemble_target(lambda node: target, lambda node: draft, weight)(-1)
    accept = np.minimum(1.0, 1.0 - weight + weight * target / draft)
    residual = np.maximum(target - draft, 0.0)
    emitted = draft * accept + (draft * (1.0 - accept)).sum() * residual / residual.sum()
    assert emitted == pytest.approx(mixture, abs=1e-12)
    with pytest.raises(ValueError, match=r"weight=1\.5"):
        ensemble_target(lambda node: target, lambda node: draft, 1.5)
