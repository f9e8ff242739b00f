"""Per-token policy losses: DCPO's dynamic clipping, fixed clipping, CISPO, GSPO, packed tree tokens.

Every function is pure: tensors and numbers in, a loss per token out. Nothing is averaged here
(see aggregation.py) and nothing is counted here (see clip_metrics.py).

Sources: PPO-type clipping as in GRPO (arXiv 2402.03300) and DAPO (2503.14476), dual clip, DCPO
(2509.02333, eq. 4), CISPO (2506.13585), GSPO (2507.18071), TreePO (2508.17445, section 2.3 and the
identity of docs/algorithms.md).

Deviations from DCPO's published code:

* a token with zero old probability gets the bounds of q -> 0 (0.5 and the cap); the code returns
  a lower bound of 1 there;
* the ratio cap is used as configured; the code raises it to at least 10;
* the log-ratio is clamped to [-20, 20] before exp.

Shapes: B rows of a batch, T tokens of a row (padded). Log-probabilities are float32, in nats, of
the training engine at the sampling temperature; `old` means the policy at the start of the
optimizer steps on this rollout batch. Masks are bool, True = the loss is taken there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MIN_OLD_LOGPROB = -30.0
"""Old log-probs are raised to this before exp: 4*eps*exp(30) is still finite in float32."""
MAX_LOG_RATIO = 20.0
"""The log-ratio is clamped to +-20 nats: exp(20) = 4.9e8, so that inf * 0 cannot arise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenClip:
    """What the clip rule did to each token; all fields (B, T), no gradient, neutral outside the mask."""

    ratio_BT: Tensor
    """Probability ratio current / old before clipping; 1 outside the loss mask."""
    clipped_high_BT: Tensor
    """Bool: positive advantage and ratio above the upper bound; gradient 0."""
    clipped_low_BT: Tensor
    """Bool: negative advantage and ratio below the lower bound; gradient 0."""
    capped_BT: Tensor
    """Bool: stopped by the ratio cap (dual clip, or the weight cap of CISPO)."""


def dac_bounds(
    old_logprobs_BT: Tensor, epsilon_low: float, epsilon_high: float, ratio_cap: float
) -> tuple[Tensor, Tensor]:
    """Return the dynamic-adaptive clip bounds (lo, hi) of every token.

    DCPO, arXiv 2509.02333, eq. 4, with q = exp(old_logprobs), r_max = ratio_cap:
    lo = 1/2 + 1/2 sqrt(max(1 - 4 epsilon_low/q, 0)), hi = min(1/2 + 1/2 sqrt(1 + 4 epsilon_high/q), r_max).
    Near q = 4 epsilon_low the slope of lo is infinite: float32 log-probs give lo to 1e-4 there.

    Args:
        old_logprobs_BT: [B, T] float32, nats; -inf and underflowing values mean q -> 0.
        epsilon_low: Bound on (1 - r) p, paper 0.16; positive.
        epsilon_high: Bound on (r - 1) p, paper 0.20; positive.
        ratio_cap: Largest upper bound, paper 10; above 1.

    Returns:
        lo in [0.5, 1) and hi in (1, ratio_cap], both [B, T]; constants for the gradient.

    Raises:
        ValueError: A parameter is out of range.

    Example: q = 0.01 with 0.16, 0.20, 10 gives lo = 0.5 and hi = 5.
    """
    if epsilon_low <= 0 or epsilon_high <= 0:
        raise ValueError(
            f"epsilon_low={epsilon_low}, epsilon_high={epsilon_high}: both must be positive; "
            "the paper uses 0.16 and 0.20"
        )
    _check_ratio_cap(ratio_cap)
    inverse_q_BT = torch.exp(-old_logprobs_BT.detach().clamp(min=MIN_OLD_LOGPROB))
    root_low_BT = (1.0 - 4.0 * epsilon_low * inverse_q_BT).clamp(min=0.0).sqrt()
    root_high_BT = (1.0 + 4.0 * epsilon_high * inverse_q_BT).sqrt()
    return 0.5 + 0.5 * root_low_BT, (0.5 + 0.5 * root_high_BT).clamp(max=ratio_cap)


def fixed_bounds(
    old_logprobs_BT: Tensor, epsilon_low: float, epsilon_high: float
) -> tuple[Tensor, Tensor]:
    """Return the constant clip bounds (1 - epsilon_low, 1 + epsilon_high), shaped like the input.

    GRPO: 0.2, 0.2. DAPO and TreePO: 0.2, 0.28. GSPO: 3e-4, 4e-4.

    Raises:
        ValueError: epsilon_low is outside (0, 1] or epsilon_high is not positive.
    """
    if not 0 < epsilon_low <= 1 or epsilon_high <= 0:
        raise ValueError(
            f"epsilon_low={epsilon_low}, epsilon_high={epsilon_high}: expected 0 < epsilon_low <= 1 "
            "and epsilon_high > 0; DAPO uses 0.2 and 0.28"
        )
    old_BT = old_logprobs_BT.detach()
    return torch.full_like(old_BT, 1.0 - epsilon_low), torch.full_like(old_BT, 1.0 + epsilon_high)


def clipped_token_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages: Tensor,
    lo_BT: Tensor,
    hi_BT: Tensor,
    *,
    loss_mask_BT: Tensor,
    ratio_cap: float | None = None,
) -> tuple[Tensor, TokenClip]:
    """Return the clipped surrogate loss of every token and what the clip rule did.

    With r = exp(logprobs - old_logprobs): A > 0: -A min(r, hi); A < 0: -A min(max(r, lo), ratio_cap).
    This equals max(-A r, -A clip(r, lo, hi)), capped at -A ratio_cap for A < 0 (dual clip).

    Gradient by logprobs: -A r if (A > 0 and r <= hi) or (A < 0 and lo <= r <= ratio_cap), both ends
    included; else exactly 0. It is also 0 where the log-ratio leaves [-20, 20]. Positions outside
    the mask give loss 0 and gradient 0 whatever they hold, NaN included; NaN inside the mask stays
    NaN, so that it is noticed.

    Args:
        logprobs_BT: [B, T] float32, nats, with gradient.
        old_logprobs_BT: [B, T] float32, nats; no gradient flows.
        advantages: [B] or [B, T] float32.
        lo_BT: [B, T] lower bounds, at most 1.
        hi_BT: [B, T] upper bounds, at least 1.
        loss_mask_BT: [B, T] bool.
        ratio_cap: Cap on the ratio of tokens with negative advantage, above every hi; None = no cap.

    Raises:
        ValueError: ratio_cap is not above 1.
    """
    logprobs_BT, old_BT = _select(loss_mask_BT, logprobs_BT, old_logprobs_BT.detach())
    return _clipped_from_log_ratio(
        logprobs_BT - old_BT, advantages, lo_BT, hi_BT, loss_mask_BT, ratio_cap
    )


def gspo_token_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages: Tensor,
    lo_BT: Tensor,
    hi_BT: Tensor,
    *,
    loss_mask_BT: Tensor,
    ratio_cap: float | None = None,
) -> tuple[Tensor, TokenClip]:
    """Return the loss of `clipped_token_loss` with one ratio per response (GSPO).

    GSPO, arXiv 2507.18071, token form: s = exp(mean over loss tokens of log r), and each token uses
    sg(s) * p / sg(p): the value is that of s, the gradient goes through the token itself. Averaged
    with `aggregation.sequence_mean` and one advantage per row, value and gradient are those of the
    sequence form. Arguments as in `clipped_token_loss`.
    """
    logprobs_BT, old_BT = _select(loss_mask_BT, logprobs_BT, old_logprobs_BT.detach())
    log_ratio_BT = (logprobs_BT - old_BT).detach()
    num_tokens_B = loss_mask_BT.sum(dim=-1, keepdim=True).clamp(min=1)
    log_s_B1 = log_ratio_BT.sum(dim=-1, keepdim=True) / num_tokens_B
    token_form_BT = log_s_B1 + (logprobs_BT - logprobs_BT.detach())
    return _clipped_from_log_ratio(token_form_BT, advantages, lo_BT, hi_BT, loss_mask_BT, ratio_cap)


def cispo_token_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages: Tensor,
    *,
    loss_mask_BT: Tensor,
    weight_cap: float,
) -> tuple[Tensor, TokenClip]:
    """Return -sg(min(r, weight_cap)) * A * logprob for every token (CISPO).

    CISPO, arXiv 2506.13585: the importance weight is capped and detached, so no token loses its
    gradient, which is -min(r, weight_cap) A. `capped_BT` marks the tokens whose weight hit the cap.

    Args:
        logprobs_BT: [B, T] float32, nats, with gradient.
        old_logprobs_BT: [B, T] float32, nats.
        advantages: [B] or [B, T] float32.
        loss_mask_BT: [B, T] bool.
        weight_cap: Absolute cap of the weight, 5 in common use; positive.

    Raises:
        ValueError: weight_cap is not positive.
    """
    if weight_cap <= 0:
        raise ValueError(f"weight_cap={weight_cap} must be positive; 5 is common for CISPO")
    logprobs_BT, old_BT = _select(loss_mask_BT, logprobs_BT, old_logprobs_BT.detach())
    advantages_BT = _advantages_per_token(advantages, loss_mask_BT)
    ratio_BT = _ratio((logprobs_BT - old_BT).detach())
    never_BT = torch.zeros_like(loss_mask_BT)
    clip = TokenClip(
        ratio_BT=ratio_BT,
        clipped_high_BT=never_BT,
        clipped_low_BT=never_BT,
        capped_BT=(ratio_BT > weight_cap) & (advantages_BT != 0),
    )
    return -ratio_BT.clamp(max=weight_cap) * advantages_BT * logprobs_BT, clip


def tree_token_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    positive_sums_BT: Tensor,
    negative_sums_BT: Tensor,
    lo_BT: Tensor,
    hi_BT: Tensor,
    *,
    loss_mask_BT: Tensor,
    ratio_cap: float | None = None,
) -> tuple[Tensor, TokenClip]:
    """Return the loss of a token that stands for all rows of a rollout tree that contain it.

    -(A+ min(r, hi) + A- min(max(r, lo), ratio_cap)), where A+ and A- are the sums of the positive
    and of the negative advantages of those rows. It equals the sum of `clipped_token_loss` over the
    rows exactly, clipped or not; the net advantage A+ + A- alone would not. Other arguments as in
    `clipped_token_loss`; divide by the same denominator as for the rows.

    Args:
        logprobs_BT: [B, T], each tree token once.
        old_logprobs_BT: [B, T].
        positive_sums_BT: [B, T] float32, A+ >= 0.
        negative_sums_BT: [B, T] float32, A- <= 0.
        lo_BT: [B, T].
        hi_BT: [B, T].
        loss_mask_BT: [B, T] bool.
        ratio_cap: As in `clipped_token_loss`.
    """
    gain_BT, gain_clip = clipped_token_loss(
        logprobs_BT,
        old_logprobs_BT,
        positive_sums_BT,
        lo_BT,
        hi_BT,
        loss_mask_BT=loss_mask_BT,
        ratio_cap=ratio_cap,
    )
    cost_BT, cost_clip = clipped_token_loss(
        logprobs_BT,
        old_logprobs_BT,
        negative_sums_BT,
        lo_BT,
        hi_BT,
        loss_mask_BT=loss_mask_BT,
        ratio_cap=ratio_cap,
    )
    clip = TokenClip(
        ratio_BT=gain_clip.ratio_BT,
        clipped_high_BT=gain_clip.clipped_high_BT,
        clipped_low_BT=cost_clip.clipped_low_BT,
        capped_BT=cost_clip.capped_BT,
    )
    return gain_BT + cost_BT, clip


def _clipped_from_log_ratio(
    log_ratio_BT: Tensor,
    advantages: Tensor,
    lo_BT: Tensor,
    hi_BT: Tensor,
    loss_mask_BT: Tensor,
    ratio_cap: float | None,
) -> tuple[Tensor, TokenClip]:
    """Clip by explicit cases, so that ties get the whole gradient (max and min would halve it)."""
    advantages_BT = _advantages_per_token(advantages, loss_mask_BT)
    ratio_BT = _ratio(log_ratio_BT)
    is_gain_BT, is_cost_BT = advantages_BT > 0, advantages_BT < 0
    high_BT = loss_mask_BT & is_gain_BT & (ratio_BT > hi_BT)
    low_BT = loss_mask_BT & is_cost_BT & (ratio_BT < lo_BT)
    used_BT = torch.where(high_BT, hi_BT, torch.where(low_BT, lo_BT, ratio_BT))
    capped_BT = torch.zeros_like(high_BT)
    if ratio_cap is not None:
        _check_ratio_cap(ratio_cap)
        capped_BT = loss_mask_BT & is_cost_BT & (ratio_BT > ratio_cap)
        used_BT = used_BT.masked_fill(capped_BT, ratio_cap)
    clip = TokenClip(
        ratio_BT=ratio_BT.detach(),
        clipped_high_BT=high_BT,
        clipped_low_BT=low_BT,
        capped_BT=capped_BT,
    )
    return -advantages_BT * used_BT, clip


def _select(loss_mask_BT: Tensor, *values_BT: Tensor) -> tuple[Tensor, ...]:
    """Put 0 where the mask is False: a NaN that enters arithmetic would reach the gradient."""
    return tuple(torch.where(loss_mask_BT, value_BT, 0.0) for value_BT in values_BT)


def _advantages_per_token(advantages: Tensor, loss_mask_BT: Tensor) -> Tensor:
    advantages_BT = advantages[:, None] if advantages.dim() == 1 else advantages
    return torch.where(loss_mask_BT, advantages_BT.detach(), 0.0)


def _ratio(log_ratio_BT: Tensor) -> Tensor:
    return log_ratio_BT.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


def _check_ratio_cap(ratio_cap: float) -> None:
    if not ratio_cap > 1:
        raise ValueError(f"ratio_cap={ratio_cap} must be above 1; DCPO uses 10")
