"""Chooses the formulas of losses.py and aggregation.py that a `PolicyConfig` names.

Shapes: B rows of a micro-batch, T response tokens (padded).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from trainers import aggregation, losses
from trainers.losses import TokenClip
from trainers.policy_config import PolicyConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSize:
    """What one optimizer step holds, over all micro-batches and ranks."""

    num_tokens: float
    num_sequences: int
    num_prompts: float
    max_length: int
    """Longest possible response in tokens."""


def token_loss(
    args: PolicyConfig,
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages: Tensor,
    loss_mask_BT: Tensor,
) -> tuple[Tensor, TokenClip]:
    """Loss per token under `args.clip`, and what was clipped; arguments as in losses.py."""
    low, high = args.clip_range
    if args.clip == "cispo":
        return losses.cispo_token_loss(
            logprobs_BT, old_logprobs_BT, advantages, loss_mask_BT=loss_mask_BT, weight_cap=high
        )
    if args.clip == "dac":
        assert args.ratio_cap is not None, "PolicyConfig checks this"
        lo_BT, hi_BT = losses.dac_bounds(old_logprobs_BT, low, high, args.ratio_cap)
    else:
        lo_BT, hi_BT = losses.fixed_bounds(old_logprobs_BT, low, high)
    rule = losses.gspo_token_loss if args.clip == "gspo" else losses.clipped_token_loss
    return rule(
        logprobs_BT,
        old_logprobs_BT,
        advantages,
        lo_BT,
        hi_BT,
        loss_mask_BT=loss_mask_BT,
        ratio_cap=args.ratio_cap,
    )


def aggregate(args: PolicyConfig, loss_BT: Tensor, loss_mask_BT: Tensor, size: StepSize) -> Tensor:
    """This micro-batch's share of the step's loss under `args.aggregation`."""
    match args.aggregation:
        case "otm":
            return aggregation.otm(loss_BT, loss_mask_BT, size.num_prompts)
        case "token_mean":
            return aggregation.token_mean(loss_BT, loss_mask_BT, size.num_tokens)
        case "sequence_mean":
            return aggregation.sequence_mean(loss_BT, loss_mask_BT, size.num_sequences)
        case "constant":
            return aggregation.constant(
                loss_BT, loss_mask_BT, size.num_sequences, length=size.max_length
            )
    raise AssertionError(f"unknown aggregation {args.aggregation!r}")


def kl_k3(logprobs_BT: Tensor, ref_logprobs_BT: Tensor) -> Tensor:
    """Estimator k3 of KL(policy || reference) per token, at least 0: exp(d) - d - 1, d = ref - policy.

    Source: Schulman's k3 as used by GRPO (arXiv 2402.03300, eq. 4).
    """
    difference_BT = (ref_logprobs_BT - logprobs_BT).clamp(
        -losses.MAX_LOG_RATIO, losses.MAX_LOG_RATIO
    )
    return difference_BT.exp() - difference_BT - 1.0
