"""From losses per token to one number: sums over this micro-batch divided by global denominators.

Every function returns (its share of the step's loss) = (sum over the rows it is given) / (a
denominator that the CALLER counts over the whole optimizer step: all micro-batches of gradient
accumulation, all ranks). Hence the step's loss is the plain sum of the returned values, and neither
value nor gradient depends on how the rows are split.

What to pass, with A micro-batches per optimizer step on each of W ranks:

| function | denominator, counted over A micro-batches x W ranks |
|---|---|
| token_mean | number of loss tokens |
| sequence_mean | number of responses, empty ones included |
| otm | number of prompts, prompts whose responses are all empty included |
| constant | number of responses, and the fixed length |

What to do with the result:

* Accumulation: call backward on every micro-batch and do NOT divide by A again (trl sets
  loss_is_scaled_for_ga, so transformers does not divide either).
* DDP and DeepSpeed AVERAGE gradients over the W ranks, so multiply the result by W before backward:
  W * sum / global, averaged over W, is sum / global. Equivalently pass global denominator / W.
* A prompt whose responses lie on several ranks is still one prompt: count distinct prompts.

Worked numbers: per-token losses on rank 0 rows [1,1] and [2,2,2,2], on rank 1 row [3]: 7 tokens,
rank 0 returns 10/7, rank 1 returns 3/7; times 2: 2.857143 and 0.857143, mean 13/7 = 1.857143.

Importance weights of rows (inverse-fork leaf weights) are multiplied into loss_BT by the caller.

Shapes: B rows, T tokens of a row (padded). Masks are bool; values outside the mask may be NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor


def token_mean(loss_BT: Tensor, loss_mask_BT: Tensor, num_tokens: float) -> Tensor:
    """Return sum of token losses / global number of loss tokens (DAPO, TreePO, CISPO).

    Args:
        loss_BT: [B, T] float32.
        loss_mask_BT: [B, T] bool.
        num_tokens: Loss tokens of the optimizer step, all micro-batches and ranks.
    """
    return _token_sums(loss_BT, loss_mask_BT).sum() / _positive(num_tokens, "num_tokens")


def sequence_mean(loss_BT: Tensor, loss_mask_BT: Tensor, num_sequences: float) -> Tensor:
    """Return sum of per-response token means / global number of responses (GRPO, GSPO).

    Args:
        loss_BT: [B, T] float32.
        loss_mask_BT: [B, T] bool; a response without loss tokens contributes 0.
        num_sequences: Responses of the optimizer step, empty ones included.
    """
    return _sum_of_row_means(loss_BT, loss_mask_BT) / _positive(num_sequences, "num_sequences")


def otm(loss_BT: Tensor, loss_mask_BT: Tensor, num_prompts: float) -> Tensor:
    """Return sum of per-response token means / global number of prompts (DCPO).

    DCPO, arXiv 2509.02333, eq. 8 sums the response means of a prompt; the paper leaves the constant
    over prompts open and its code depends on the micro-batch size. Here L = 1/P sum_prompts sum_k
    mean_t loss, that is `sequence_mean` times the responses per prompt.

    Args:
        loss_BT: [B, T] float32.
        loss_mask_BT: [B, T] bool; a response without loss tokens contributes 0.
        num_prompts: Prompts of the optimizer step (default form). Pass 1 for the plain sum of
            eq. 8, or the number of responses for `sequence_mean`.
    """
    return _sum_of_row_means(loss_BT, loss_mask_BT) / _positive(num_prompts, "num_prompts")


def constant(loss_BT: Tensor, loss_mask_BT: Tensor, num_sequences: float, length: float) -> Tensor:
    """Return sum of token losses / (global number of responses * a fixed length) (Dr. GRPO).

    Dr. GRPO, arXiv 2503.20783. With length = 1 this is the mean over responses of token sums.

    Args:
        loss_BT: [B, T] float32.
        loss_mask_BT: [B, T] bool.
        num_sequences: Responses of the optimizer step, empty ones included.
        length: Constant in tokens, usually the largest response length.
    """
    denominator = _positive(num_sequences, "num_sequences") * _positive(length, "length")
    return _token_sums(loss_BT, loss_mask_BT).sum() / denominator


def _token_sums(loss_BT: Tensor, loss_mask_BT: Tensor) -> Tensor:
    return torch.where(loss_mask_BT, loss_BT, 0.0).sum(dim=-1)


def _sum_of_row_means(loss_BT: Tensor, loss_mask_BT: Tensor) -> Tensor:
    lengths_B = loss_mask_BT.sum(dim=-1).clamp(min=1)
    return (_token_sums(loss_BT, loss_mask_BT) / lengths_B).sum()


def _positive(denominator: float, name: str) -> float:
    if not denominator > 0:
        raise ValueError(
            f"{name}={denominator} must be positive; count it over all ranks and micro-batches, "
            "and skip the step if there is nothing to train on"
        )
    return denominator
