"""Aggregations: the worked example, invariance to splitting, ranks, and empty responses."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trainers.aggregation import constant, otm, sequence_mean, token_mean

LENGTHS = torch.tensor([500, 1500, 800, 200])
EXAMPLE_MASK = torch.arange(1500)[None] < LENGTHS[:, None]
EXAMPLE_OBJECTIVE = torch.tensor([1.0, 0.5, -1.0, 1.0], dtype=torch.float64)[:, None].repeat(
    1, 1500
)

Aggregation = Callable[[Tensor, Tensor], Tensor]
EXAMPLE: dict[str, tuple[Aggregation, float, list[float]]] = {
    "token_mean": (lambda x, m: token_mean(x, m, 3000), 0.216667, [1 / 3000] * 4),
    "sequence_mean": (
        lambda x, m: sequence_mean(x, m, 4),
        0.375,
        [0.0005, 0.000166667, 0.0003125, 0.00125],
    ),
    "otm_sum": (lambda x, m: otm(x, m, 1), 1.5, [0.002, 0.000666667, 0.00125, 0.005]),
    "otm_prompts": (lambda x, m: otm(x, m, 2), 0.75, [0.001, 0.000333333, 0.000625, 0.0025]),
    "token_sum": (lambda x, m: constant(x, m, 4, 1), 162.5, [0.25] * 4),
    "dr_grpo": (lambda x, m: constant(x, m, 4, 3072), 0.052897, [1 / 12288] * 4),
}
# eight rows of four prompts; row 5 is empty
SPLIT: dict[str, Aggregation] = {
    "token_mean": lambda x, m: token_mean(x, m, 25),
    "sequence_mean": lambda x, m: sequence_mean(x, m, 8),
    "otm": lambda x, m: otm(x, m, 4),
    "constant": lambda x, m: constant(x, m, 8, 7),
}


@pytest.mark.parametrize("name", EXAMPLE)
def test_worked_example_value_and_token_weights(name: str) -> None:
    aggregate, value, weights = EXAMPLE[name]
    losses = EXAMPLE_OBJECTIVE.clone().requires_grad_()
    total = aggregate(losses, EXAMPLE_MASK)
    assert total.item() == pytest.approx(value, abs=6e-7)
    (grad,) = torch.autograd.grad(total, losses)
    assert grad[:, 0].tolist() == pytest.approx(weights, abs=6e-10)
    assert torch.equal(grad, torch.where(EXAMPLE_MASK, grad[:, :1], 0.0))


def _split_batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([7, 1, 3, 2, 6, 0, 4, 2])
    mask = torch.arange(7)[None] < lengths[:, None]
    features = torch.randn(8, 7, 5, generator=generator, dtype=torch.float64)
    return features, torch.randn(5, generator=generator, dtype=torch.float64), mask


def _loss_and_grad(
    aggregate: Aggregation, micro_batches: list[Tensor], factor: float = 1.0
) -> tuple[float, Tensor]:
    """What a trainer does: backward on every micro-batch, gradients add up."""
    features, start, mask = _split_batch()
    weight = start.clone().requires_grad_()
    total = 0.0
    for rows in micro_batches:
        loss = factor * aggregate((features[rows] @ weight).tanh(), mask[rows])
        loss.backward()
        total += loss.item()
    assert weight.grad is not None
    return total, weight.grad


@pytest.mark.parametrize("name", SPLIT)
@pytest.mark.parametrize("sizes", [[4, 4], [2, 2, 2, 2], [1, 5, 2], [1] * 8])
def test_micro_batching_changes_neither_value_nor_gradient(name: str, sizes: list[int]) -> None:
    whole = _loss_and_grad(SPLIT[name], [torch.arange(8)])
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    parts = _loss_and_grad(SPLIT[name], list(order.split(sizes)))
    assert parts[0] == pytest.approx(whole[0], abs=1e-12)
    torch.testing.assert_close(parts[1], whole[1], atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", SPLIT)
@pytest.mark.parametrize("num_micro_batches", [1, 2, 4])
def test_two_ranks_with_averaged_gradients_equal_one_when_the_loss_is_multiplied_by_two(
    name: str, num_micro_batches: int
) -> None:
    value, grad = _loss_and_grad(SPLIT[name], [torch.arange(8)])
    ranks = [torch.tensor([0, 2, 5, 7]), torch.tensor([1, 3, 4, 6])]
    runs = [_loss_and_grad(SPLIT[name], list(r.chunk(num_micro_batches)), 2.0) for r in ranks]
    assert (runs[0][0] + runs[1][0]) / 2 == pytest.approx(value, abs=1e-12)
    torch.testing.assert_close((runs[0][1] + runs[1][1]) / 2, grad, atol=1e-12, rtol=0)


def test_averages_over_ranks_match_the_worked_numbers() -> None:
    rank_0 = torch.tensor([[1.0, 1.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0]])
    mask_0 = torch.tensor([[True, True, False, False], [True] * 4])
    rank_1, mask_1 = torch.tensor([[3.0]]), torch.tensor([[True]])
    shares = [2 * token_mean(rank_0, mask_0, 7).item(), 2 * token_mean(rank_1, mask_1, 7).item()]
    assert shares == pytest.approx([2.857143, 0.857143], abs=6e-7)
    assert sum(shares) / 2 == pytest.approx(1.857143, abs=6e-7)
    rows = sequence_mean(rank_0, mask_0, 3) + sequence_mean(rank_1, mask_1, 3)
    assert rows.item() == pytest.approx(2.0, abs=1e-6)


@pytest.mark.parametrize("name", SPLIT)
def test_rows_without_loss_tokens_give_zero_and_no_gradient(name: str) -> None:
    losses = torch.full((3, 2), math.nan, requires_grad=True)
    total = SPLIT[name](losses, torch.zeros(3, 2, dtype=torch.bool))
    assert total.item() == 0.0
    assert torch.autograd.grad(total, losses)[0].eq(0).all()


def test_an_empty_response_still_counts_in_the_denominators() -> None:
    losses = torch.ones(2, 3)
    mask = torch.tensor([[True] * 3, [False] * 3])
    assert sequence_mean(losses, mask, 2).item() == 0.5
    assert otm(losses, mask, 2).item() == 0.5


@pytest.mark.parametrize("name", SPLIT)
def test_nan_in_padding_harms_nothing(name: str) -> None:
    losses = torch.tensor([[1.0, math.nan], [2.0, 3.0]], requires_grad=True)
    total = SPLIT[name](losses, torch.tensor([[True, False], [True, True]]))
    (grad,) = torch.autograd.grad(total, losses)
    assert math.isfinite(total.item())
    assert torch.isfinite(grad).all()
    assert grad[0, 1] == 0


@pytest.mark.parametrize("bad", [0, -1, math.nan])
def test_a_denominator_that_is_not_positive_is_rejected(bad: float) -> None:
    losses, mask = torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool)
    with pytest.raises(ValueError, match="num_tokens"):
        token_mean(losses, mask, bad)
    with pytest.raises(ValueError, match="num_sequences"):
        sequence_mean(losses, mask, bad)
    with pytest.raises(ValueError, match="num_prompts"):
        otm(losses, mask, bad)
    with pytest.raises(ValueError, match="length"):
        constant(losses, mask, 1, bad)
