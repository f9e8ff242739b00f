"""Clip bounds, per-token losses and their gradients against tables, oracles and edge cases."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trainers.losses import (
    TokenClip,
    cispo_token_loss,
    clipped_token_loss,
    dac_bounds,
    fixed_bounds,
    gspo_token_loss,
    tree_token_loss,
)

DCPO = (0.16, 0.20, 10.0)
INF, NAN = math.inf, math.nan


def _logs(*probs: float) -> Tensor:
    return torch.tensor([probs], dtype=torch.float64).log()


def _bounds_at(q: float, settings: tuple[float, float, float]) -> tuple[float, float]:
    lo, hi = dac_bounds(_logs(q), *settings)
    return lo.item(), hi.item()


def _loss_and_grad(
    q: float, p: float, advantage: float, bounds: str, cap: float | None
) -> tuple[float, float, TokenClip]:
    old, new = _logs(q).float(), _logs(p).float().requires_grad_()
    lo, hi = dac_bounds(old, *DCPO) if bounds == "dac" else fixed_bounds(old, 0.2, 0.2)
    loss, clip = clipped_token_loss(
        new,
        old,
        torch.tensor([advantage]),
        lo,
        hi,
        loss_mask_BT=torch.tensor([[True]]),
        ratio_cap=cap,
    )
    (grad,) = torch.autograd.grad(loss.sum(), new)
    return loss.item(), grad.item(), clip


DAC_TABLE = [
    (1e-4, 0.5, 10.0),
    (1e-3, 0.5, 10.0),
    (0.01, 0.5, 5.0),
    (0.1, 0.5, 2.0),
    (0.5, 0.5, 1.306226),
    (0.64, 0.5, 1.25),
    (0.8, 0.723607, 1.207107),
    (0.9, 0.768742, 1.187184),
    (1.0, 0.8, 1.170820),
]
WIDE_TABLE = [
    (1e-4, 0.5, 10.0),
    (1e-3, 0.5, 10.0),
    (0.01, 0.5, 5.815073),
    (0.1, 0.5, 2.246425),
    (0.5, 0.5, 1.4),
    (0.9, 0.666667, 1.249074),
    (1.0, 0.723607, 1.228011),
]


@pytest.mark.parametrize(("q", "lo", "hi"), DAC_TABLE)
def test_dac_bounds_match_the_table_of_the_paper_setting(q: float, lo: float, hi: float) -> None:
    # q = 0.64 is the branch point: even float64 rounding of log(q) moves lo by 1e-8 there
    assert _bounds_at(q, DCPO) == pytest.approx((lo, hi), abs=6e-7)


@pytest.mark.parametrize(("q", "lo", "hi"), WIDE_TABLE)
def test_dac_bounds_match_the_table_of_the_wide_setting(q: float, lo: float, hi: float) -> None:
    assert _bounds_at(q, (0.20, 0.28, 10.0)) == pytest.approx((lo, hi), abs=6e-7)


@pytest.mark.parametrize(("q", "lo", "hi"), DAC_TABLE)
def test_dac_bounds_in_float32_agree_with_the_table(q: float, lo: float, hi: float) -> None:
    got_lo, got_hi = dac_bounds(_logs(q).float(), *DCPO)
    # d lo / d q is infinite at 0.64: half a float32 ulp of log q becomes sqrt(6e-8)/2 = 1.2e-4
    assert got_lo.item() == pytest.approx(lo, abs=2e-4 if q == 0.64 else 1e-6)
    assert got_hi.item() == pytest.approx(hi, abs=2e-6)
    assert got_lo.dtype == got_hi.dtype == torch.float32


@pytest.mark.parametrize(
    ("q", "hi_before_cap"),
    [(1e-4, 45.224155), (1e-3, 14.650972)],
)
def test_a_large_cap_shows_the_bound_before_the_cap(q: float, hi_before_cap: float) -> None:
    assert _bounds_at(q, (0.16, 0.20, 100.0))[1] == pytest.approx(hi_before_cap, abs=6e-7)


def test_a_cap_below_ten_is_honoured() -> None:
    assert _bounds_at(0.01, (0.16, 0.20, 3.0))[1] == 3.0


@pytest.mark.parametrize("old_logprob", [-INF, -120.0, -1e30, -30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_vanishing_old_probability_gives_the_limits_of_the_bounds(
    old_logprob: float, dtype: torch.dtype
) -> None:
    lo, hi = dac_bounds(torch.tensor([[old_logprob]], dtype=dtype), *DCPO)
    assert (lo.item(), hi.item()) == (0.5, 10.0)


def test_bounds_stay_finite_without_a_cap() -> None:
    hi = dac_bounds(torch.tensor([[-math.inf]]), 0.16, 0.20, math.inf)[1]
    assert hi.item() == pytest.approx(0.5 + math.sqrt(0.2 * math.exp(30)), rel=1e-5)


def test_bounds_are_monotone_and_stay_in_their_ranges() -> None:
    lo, hi = dac_bounds(torch.linspace(-35, 0, 20001)[None], *DCPO)
    assert (lo.diff() >= 0).all()
    assert (hi.diff() <= 0).all()
    assert lo.min() == 0.5
    assert lo.max() < 1
    assert hi.max() == 10
    assert hi.min() > 1


def test_thresholds_of_the_bounds_are_where_the_formula_puts_them() -> None:
    below, above = 0.2 / 90 * (1 - 1e-9), 0.2 / 90 * (1 + 1e-9)
    assert _bounds_at(below, DCPO)[1] == 10.0
    assert _bounds_at(above, DCPO)[1] < 10.0
    assert _bounds_at(0.6399999, DCPO)[0] == 0.5
    assert _bounds_at(0.65, DCPO)[0] > 0.5
    assert _bounds_at(1 / 1.2, DCPO)[1] == pytest.approx(1.2, abs=1e-12)


def test_upper_clip_cannot_bind_for_confident_tokens() -> None:
    q = torch.linspace(1 / 1.2, 1.0, 1001, dtype=torch.float64)[None]
    assert (1 / q <= dac_bounds(q.log(), *DCPO)[1] + 1e-12).all()


def test_bounds_satisfy_the_inequality_they_were_solved_from() -> None:
    q = torch.linspace(0.65, 1.0, 200, dtype=torch.float64)[None]
    lo, hi = dac_bounds(q.log(), *DCPO)
    torch.testing.assert_close((lo - 1) * lo * q, torch.full_like(q, -0.16), atol=1e-12, rtol=0)
    torch.testing.assert_close((hi - 1) * hi * q, torch.full_like(q, 0.20), atol=1e-12, rtol=0)


def test_bounds_carry_no_gradient() -> None:
    old = _logs(0.5).requires_grad_()
    assert not any(bound.requires_grad for bound in dac_bounds(old, *DCPO))
    assert not any(bound.requires_grad for bound in fixed_bounds(old, 0.2, 0.2))


def test_no_gradient_flows_into_old_logprobs_or_advantages() -> None:
    old, new = _logs(0.5).requires_grad_(), _logs(0.55).requires_grad_()
    advantages = torch.ones(1, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(1, 1, dtype=torch.bool)
    loss, _ = clipped_token_loss(new, old, advantages, *dac_bounds(old, *DCPO), loss_mask_BT=mask)
    grads = torch.autograd.grad(loss.sum(), (new, old, advantages), allow_unused=True)
    assert grads[0] is not None
    assert grads[1] is None
    assert grads[2] is None


@pytest.mark.parametrize(
    ("settings", "name"),
    [((0.0, 0.2, 10.0), "epsilon_low"), ((0.1, -1.0, 10.0), "epsilon_high")],
)
def test_dac_bounds_reject_bad_epsilons(settings: tuple[float, float, float], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        dac_bounds(_logs(0.5), *settings)


@pytest.mark.parametrize("cap", [1.0, 0.5, NAN])
def test_a_ratio_cap_that_is_not_above_one_is_rejected(cap: float) -> None:
    with pytest.raises(ValueError, match="ratio_cap"):
        dac_bounds(_logs(0.5), 0.16, 0.2, cap)
    with pytest.raises(ValueError, match="ratio_cap"):
        _loss_and_grad(0.5, 0.5, 1.0, "dac", cap)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.2), (1.5, 0.2), (0.2, 0.0)])
def test_fixed_bounds_reject_bad_epsilons(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="epsilon_low"):
        fixed_bounds(_logs(0.5), low, high)


def test_fixed_bounds_are_one_minus_low_and_one_plus_high_everywhere() -> None:
    lo, hi = fixed_bounds(_logs(0.001, 1.0), 0.2, 0.28)
    assert lo.tolist() == [[0.8, 0.8]]
    assert hi.tolist() == [[1.28, 1.28]]


LOSS_TABLE = [
    (0.01, 0.03, 1, -3.0, -3.0, -1.2, 0.0),
    (0.01, 0.06, 1, -5.0, 0.0, -1.2, 0.0),
    (0.001, 0.02, 1, -10.0, 0.0, -1.2, 0.0),
    (0.1, 0.06, -1, 0.6, 0.6, 0.8, 0.0),
    (0.1, 0.04, -1, 0.5, 0.0, 0.8, 0.0),
    (0.5, 0.7, 1, -1.306226, 0.0, -1.2, 0.0),
    (0.9, 0.7, -1, 0.777778, 0.777778, 0.8, 0.0),
    (0.9, 0.68, -1, 0.768742, 0.0, 0.8, 0.0),
    (0.9, 0.99, 1, -1.1, -1.1, -1.1, -1.1),
    (0.001, 0.02, -1, 10.0, 0.0, 20.0, 20.0),
]


@pytest.mark.parametrize(("q", "p", "a", "loss", "grad", "_fixed", "_fixed_grad"), LOSS_TABLE)
def test_dcpo_loss_and_gradient_match_the_table(
    q: float, p: float, a: float, loss: float, grad: float, _fixed: float, _fixed_grad: float
) -> None:
    got = _loss_and_grad(q, p, a, "dac", 10.0)
    assert got[:2] == pytest.approx((loss, grad), abs=1e-6, rel=1e-6)
    assert (got[1] == 0) == (grad == 0)


@pytest.mark.parametrize(("q", "p", "a", "_loss", "_grad", "fixed", "fixed_grad"), LOSS_TABLE)
def test_fixed_loss_and_gradient_match_the_table(
    q: float, p: float, a: float, _loss: float, _grad: float, fixed: float, fixed_grad: float
) -> None:
    got = _loss_and_grad(q, p, a, "fixed", None)
    assert got[:2] == pytest.approx((fixed, fixed_grad), abs=1e-6, rel=2e-6)


def test_a_zero_advantage_gives_zero_loss_gradient_and_no_clip() -> None:
    loss, grad, clip = _loss_and_grad(0.001, 0.9, 0.0, "dac", 10.0)
    assert (loss, grad) == (0.0, 0.0)
    assert not (clip.clipped_high_BT | clip.clipped_low_BT | clip.capped_BT).any()


@pytest.mark.parametrize(
    ("q", "p", "a", "flags"),
    [
        (0.01, 0.03, 1.0, (False, False, False)),
        (0.01, 0.06, 1.0, (True, False, False)),
        (0.1, 0.04, -1.0, (False, True, False)),
        (0.001, 0.02, -1.0, (False, False, True)),
        (0.01, 0.06, -1.0, (False, False, False)),
        (0.1, 0.04, 1.0, (False, False, False)),
    ],
)
def test_clip_masks_name_the_rule_that_stopped_the_token(
    q: float, p: float, a: float, flags: tuple[bool, bool, bool]
) -> None:
    clip = _loss_and_grad(q, p, a, "dac", 10.0)[2]
    got = (clip.clipped_high_BT.item(), clip.clipped_low_BT.item(), clip.capped_BT.item())
    assert got == flags
    assert clip.ratio_BT.item() == pytest.approx(p / q, rel=1e-6)


@pytest.mark.parametrize(
    ("ratio", "advantage", "grad"),
    [(1.25, 1.0, -1.25), (0.75, -1.0, 0.75), (4.0, -1.0, 4.0)],
)
def test_the_ends_of_the_interval_keep_the_whole_gradient(
    ratio: float, advantage: float, grad: float
) -> None:
    # find log-ratio whose float64 exp is exactly the bound by taking the bound from exp itself
    new = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    exact = new.detach().exp()
    bounds = {
        "lo_BT": exact if ratio < 1 else torch.full_like(exact, 0.5),
        "hi_BT": exact if 1 < ratio < 2 else torch.full_like(exact, 2.0),
    }
    loss, clip = clipped_token_loss(
        new,
        torch.zeros_like(exact),
        torch.tensor([advantage], dtype=torch.float64),
        **bounds,
        loss_mask_BT=torch.tensor([[True]]),
        ratio_cap=exact.item() if ratio > 2 else 100.0,
    )
    assert torch.autograd.grad(loss.sum(), new)[0].item() == pytest.approx(grad, abs=1e-12)
    assert not (clip.clipped_high_BT | clip.clipped_low_BT | clip.capped_BT).any()


def _random_tokens(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    old = -5 * torch.rand(6, 40, generator=generator, dtype=torch.float64)
    new = old + 2 * torch.randn(6, 40, generator=generator, dtype=torch.float64)
    return new, old, torch.randn(6, 40, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("cap", [None, 3.0])
@pytest.mark.parametrize("bounds", ["dac", "fixed"])
def test_loss_and_gradient_equal_the_max_and_min_form(bounds: str, cap: float | None) -> None:
    new, old, advantages = _random_tokens(0)
    new.requires_grad_()
    lo, hi = dac_bounds(old, 0.16, 0.2, 3.0) if bounds == "dac" else fixed_bounds(old, 0.2, 0.28)
    mask = torch.ones_like(new, dtype=torch.bool)
    loss, clip = clipped_token_loss(new, old, advantages, lo, hi, loss_mask_BT=mask, ratio_cap=cap)
    ratio = (new - old).exp()
    oracle = torch.max(-advantages * ratio, -advantages * ratio.clamp(lo, hi))
    if cap is not None:
        oracle = torch.where(advantages < 0, torch.min(oracle, -advantages * cap), oracle)
    torch.testing.assert_close(loss, oracle, atol=1e-12, rtol=1e-12)
    got, expected = (torch.autograd.grad(x.sum(), new)[0] for x in (loss, oracle))
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)
    stopped = clip.clipped_high_BT | clip.clipped_low_BT | clip.capped_BT
    assert stopped.any()
    assert torch.equal(got == 0, stopped)


def test_one_advantage_per_row_equals_the_same_advantage_on_every_token() -> None:
    new, old, _ = _random_tokens(1)
    advantages = torch.tensor([1.0, -1.0, 0.5, -2.0, 0.0, 3.0], dtype=torch.float64)
    mask = torch.ones_like(new, dtype=torch.bool)
    bounds = dac_bounds(old, *DCPO)
    by_row, _ = clipped_token_loss(new, old, advantages, *bounds, loss_mask_BT=mask)
    spread = advantages[:, None].expand_as(new)
    by_token, _ = clipped_token_loss(new, old, spread, *bounds, loss_mask_BT=mask)
    assert torch.equal(by_row, by_token)


@pytest.mark.parametrize("junk", [NAN, INF, -INF])
@pytest.mark.parametrize("kind", ["clipped", "gspo", "cispo", "tree"])
def test_padding_may_hold_anything(kind: str, junk: float) -> None:
    mask = torch.tensor([[True, True, False, False]])
    new = torch.tensor([[-1.0, -0.5, junk, -1.0]], requires_grad=True)
    old = torch.tensor([[-1.1, -0.7, -1.0, junk]])
    advantages = torch.tensor([[1.0, -1.0, junk, junk]])
    lo, hi = dac_bounds(old, *DCPO)
    if kind == "clipped":
        loss, clip = clipped_token_loss(
            new, old, advantages, lo, hi, loss_mask_BT=mask, ratio_cap=10.0
        )
    elif kind == "gspo":
        loss, clip = gspo_token_loss(
            new, old, advantages, lo, hi, loss_mask_BT=mask, ratio_cap=10.0
        )
    elif kind == "cispo":
        loss, clip = cispo_token_loss(new, old, advantages, loss_mask_BT=mask, weight_cap=5.0)
    else:
        loss, clip = tree_token_loss(
            new, old, advantages.clamp(min=0), -2 * advantages.abs(), lo, hi, loss_mask_BT=mask
        )
    (grad,) = torch.autograd.grad(loss.sum(), new)
    assert torch.isfinite(loss).all()
    assert torch.isfinite(grad).all()
    assert grad[0, 2:].tolist() == loss[0, 2:].tolist() == [0.0, 0.0]
    assert (grad[0, :2] != 0).all()
    if kind != "gspo":
        assert clip.ratio_BT[0, 2:].tolist() == [1.0, 1.0]
    stopped = clip.clipped_high_BT | clip.clipped_low_BT | clip.capped_BT
    assert not stopped[0, 2:].any()


def test_a_nan_inside_the_mask_is_not_hidden() -> None:
    assert math.isnan(_loss_and_grad(0.5, NAN, 1.0, "dac", 10.0)[0])


@pytest.mark.parametrize(
    ("log_ratio", "advantage", "loss"),
    [
        (200.0, -1.0, math.exp(20)),
        (-200.0, 1.0, -math.exp(-20)),
        (INF, -1.0, math.exp(20)),
        (-INF, 1.0, -math.exp(-20)),
    ],
)
def test_huge_log_ratios_are_clamped_and_lose_their_gradient(
    log_ratio: float, advantage: float, loss: float
) -> None:
    new = torch.tensor([[log_ratio]], requires_grad=True)
    old = torch.zeros(1, 1)
    got, _ = clipped_token_loss(
        new,
        old,
        torch.tensor([advantage]),
        *fixed_bounds(old, 0.2, 0.2),
        loss_mask_BT=torch.tensor([[True]]),
    )
    assert got.item() == pytest.approx(loss, rel=1e-6)
    assert torch.autograd.grad(got.sum(), new)[0].item() == 0.0


def test_on_policy_gradient_is_the_policy_gradient_and_nothing_is_clipped() -> None:
    _, old, advantages = _random_tokens(2)
    mask = torch.ones_like(old, dtype=torch.bool)
    for bounds in (dac_bounds(old, *DCPO), fixed_bounds(old, 0.2, 0.2)):
        new = old.clone().requires_grad_()
        loss, clip = clipped_token_loss(
            new, old, advantages, *bounds, loss_mask_BT=mask, ratio_cap=10.0
        )
        torch.testing.assert_close(torch.autograd.grad(loss.sum(), new)[0], -advantages)
        assert not (clip.clipped_high_BT | clip.clipped_low_BT | clip.capped_BT).any()


def test_gspo_equals_the_sequence_form_in_value_and_gradient() -> None:
    generator = torch.Generator().manual_seed(3)
    old = -3 * torch.rand(8, 20, generator=generator, dtype=torch.float64)
    new = old + 2e-3 * torch.randn(8, 20, generator=generator, dtype=torch.float64)
    new.requires_grad_()
    advantages = torch.randn(8, generator=generator, dtype=torch.float64)
    lengths = torch.tensor([20, 1, 7, 12, 3, 19, 5, 10])
    mask = torch.arange(20)[None] < lengths[:, None]
    loss, clip = gspo_token_loss(
        new, old, advantages, *fixed_bounds(old, 3e-4, 4e-4), loss_mask_BT=mask
    )
    total = sum((loss[row] * mask[row]).sum() / lengths[row] for row in range(8))
    expected = torch.zeros((), dtype=torch.float64)
    for row in range(8):
        s = (new - old)[row, : lengths[row]].mean().exp()
        clipped = s.clamp(1 - 3e-4, 1 + 4e-4)
        expected = expected - torch.min(s * advantages[row], clipped * advantages[row])
    assert isinstance(total, Tensor)
    torch.testing.assert_close(total, expected, atol=1e-12, rtol=1e-12)
    got, oracle = (torch.autograd.grad(x, new)[0] for x in (total, expected))
    torch.testing.assert_close(got, oracle, atol=1e-12, rtol=1e-9)
    stopped = (clip.clipped_high_BT | clip.clipped_low_BT).any(dim=1)
    assert stopped.any()
    assert not stopped.all()


def test_gspo_of_a_row_without_loss_tokens_is_zero() -> None:
    new = torch.tensor([[-1.0, NAN]], requires_grad=True)
    old = torch.tensor([[-2.0, -1.0]])
    loss, _ = gspo_token_loss(
        new,
        old,
        torch.ones(1),
        *fixed_bounds(old, 0.2, 0.2),
        loss_mask_BT=torch.zeros(1, 2, dtype=torch.bool),
    )
    assert loss.tolist() == [[0.0, 0.0]]
    assert torch.autograd.grad(loss.sum(), new)[0].tolist() == [[0.0, 0.0]]


def test_cispo_caps_the_weight_and_keeps_every_gradient() -> None:
    old, new = _logs(0.01, 0.01, 0.5, 0.01), _logs(0.03, 0.09, 0.25, 0.09).requires_grad_()
    advantages = torch.tensor([[1.0, -2.0, 1.0, 0.0]], dtype=torch.float64)
    loss, clip = cispo_token_loss(
        new, old, advantages, loss_mask_BT=torch.ones(1, 4, dtype=torch.bool), weight_cap=5.0
    )
    expected = [-3.0 * math.log(0.03), 10.0 * math.log(0.09), -0.5 * math.log(0.25), 0.0]
    assert loss[0].tolist() == pytest.approx(expected, rel=1e-12)
    (grad,) = torch.autograd.grad(loss.sum(), new)
    assert grad[0].tolist() == pytest.approx([-3.0, 10.0, -0.5, 0.0], rel=1e-12)
    assert clip.capped_BT.tolist() == [[False, True, False, False]]
    assert not (clip.clipped_high_BT | clip.clipped_low_BT).any()


def test_cispo_rejects_a_weight_cap_that_is_not_positive() -> None:
    with pytest.raises(ValueError, match="weight_cap"):
        cispo_token_loss(
            _logs(0.5),
            _logs(0.5),
            torch.ones(1),
            loss_mask_BT=torch.ones(1, 1, dtype=torch.bool),
            weight_cap=0.0,
        )


@pytest.mark.parametrize(
    ("ratio", "objective"), [(3.0, 0.0), (6.0, -0.5), (12.0, -2.5), (0.4, -0.05)]
)
def test_tree_token_objective_matches_the_worked_example(ratio: float, objective: float) -> None:
    old = _logs(0.01)
    loss, _ = tree_token_loss(
        old + math.log(ratio),
        old,
        torch.full_like(old, 0.5),
        torch.full_like(old, -0.5),
        *dac_bounds(old, *DCPO),
        loss_mask_BT=torch.ones(1, 1, dtype=torch.bool),
        ratio_cap=10.0,
    )
    assert -loss.item() == pytest.approx(objective, abs=1e-12)


def test_tree_token_loss_equals_the_sum_over_the_rows_that_share_the_token() -> None:
    new, old, _ = _random_tokens(4)
    generator = torch.Generator().manual_seed(5)
    row_advantages = torch.randn(16, 6, 40, generator=generator, dtype=torch.float64)
    new.requires_grad_()
    mask = torch.rand(6, 40, generator=generator) < 0.8
    bounds = dac_bounds(old, 0.16, 0.2, 4.0)
    rows = [
        clipped_token_loss(new, old, a, *bounds, loss_mask_BT=mask, ratio_cap=4.0)[0]
        for a in row_advantages
    ]
    expected = torch.stack(rows).sum(dim=0)
    loss, clip = tree_token_loss(
        new,
        old,
        row_advantages.clamp(min=0).sum(dim=0),
        row_advantages.clamp(max=0).sum(dim=0),
        *bounds,
        loss_mask_BT=mask,
        ratio_cap=4.0,
    )
    torch.testing.assert_close(loss, expected, atol=1e-12, rtol=1e-12)
    got, oracle = (torch.autograd.grad(x.sum(), new)[0] for x in (loss, expected))
    torch.testing.assert_close(got, oracle, atol=1e-12, rtol=1e-12)
    assert clip.clipped_high_BT.any()
    assert clip.clipped_low_BT.any()
    assert clip.capped_BT.any()
