"""Counts of what clipping did, as one vector that is summed over micro-batches and ranks.

Usage: counts = clip_counts(...) per micro-batch; all = merge_clip_counts(stack of the vectors of
all micro-batches and ranks); clip_metrics(all) gives the numbers to log. DCPO's token clip ratio
(arXiv 2509.02333, TCR) is the mean over micro-batches of `token_clip_ratio`; the merged vector gives
the token-weighted one, which does not depend on batching.

Shapes: B rows, T tokens, K buckets of the old probability q, C entries of a count vector, R count
vectors (micro-batches, ranks).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainers.losses import TokenClip

Q_EDGES = (0.01, 0.1, 0.64)
"""Upper ends (exclusive) of the first three q-buckets; 0.64 = 4 epsilon_low of DCPO."""
BUCKET_NAMES = ("q_below_0.01", "q_0.01_0.1", "q_0.1_0.64", "q_above_0.64")
CONFIDENT_Q = 0.9
"""Tokens with a larger old probability are counted as confident."""
_K = len(BUCKET_NAMES)
NUM_COUNTS = 4 * _K + 3
"""Length C of a count vector: K tokens, K high, K low, K capped, confident, ratio sum, ratio max."""


def clip_counts(clip: TokenClip, old_logprobs_BT: Tensor, loss_mask_BT: Tensor) -> Tensor:
    """Return the count vector [C] float64 of one micro-batch.

    All entries add up over micro-batches and ranks except the last, the largest ratio
    (-inf when there is no loss token), which is combined by maximum: use `merge_clip_counts`.

    Args:
        clip: What the loss function returned.
        old_logprobs_BT: [B, T] float32, nats.
        loss_mask_BT: [B, T] bool.
    """
    old_N = old_logprobs_BT[loss_mask_BT].detach()
    ratio_N = clip.ratio_BT[loss_mask_BT].double()
    edges = torch.tensor([math.log(q) for q in Q_EDGES], dtype=old_N.dtype, device=old_N.device)
    bucket_N = torch.bucketize(old_N, edges, right=True)
    parts = [torch.bincount(bucket_N, minlength=_K).double()]
    for flag_BT in (clip.clipped_high_BT, clip.clipped_low_BT, clip.capped_BT):
        flagged_N = bucket_N[flag_BT[loss_mask_BT]]
        parts.append(torch.bincount(flagged_N, minlength=_K).double())
    confident = (old_N > math.log(CONFIDENT_Q)).sum().double()
    largest = ratio_N.max() if ratio_N.numel() else ratio_N.new_tensor(-math.inf)
    return torch.cat([*parts, torch.stack([confident, ratio_N.sum(), largest])])


def merge_clip_counts(counts_RC: Tensor) -> Tensor:
    """Return the count vector [C] of several: sums, and the maximum of the last column."""
    return torch.cat([counts_RC[:, :-1].sum(dim=0), counts_RC[:, -1:].max(dim=0).values])


def token_clip_ratio(counts_C: Tensor) -> float:
    """Return clipped loss tokens (upper and lower, not the cap) / loss tokens; 0 without tokens."""
    values = counts_C.tolist()
    return _share(sum(values[_K : 3 * _K]), sum(values[:_K]))


def clip_metrics(counts_C: Tensor) -> dict[str, float]:
    """Return the metrics of a count vector, named for logging.

    clip/token_frac, clip/high_frac, clip/low_frac, clip/capped_frac: clipped / all loss tokens;
    clip/high_frac/<bucket>, clip/low_frac/<bucket>: the same within a bucket of q;
    clip/confident_frac: share of loss tokens with q above 0.9;
    policy/ratio_mean, policy/ratio_max: of the unclipped ratio. Empty denominators give 0.
    """
    values = counts_C.tolist()
    tokens, high, low, capped = (values[k * _K : (k + 1) * _K] for k in range(4))
    confident, ratio_sum, ratio_max = values[4 * _K :]
    num_tokens = sum(tokens)
    metrics = {
        "clip/token_frac": _share(sum(high) + sum(low), num_tokens),
        "clip/high_frac": _share(sum(high), num_tokens),
        "clip/low_frac": _share(sum(low), num_tokens),
        "clip/capped_frac": _share(sum(capped), num_tokens),
        "clip/confident_frac": _share(confident, num_tokens),
        "policy/ratio_mean": _share(ratio_sum, num_tokens),
        "policy/ratio_max": ratio_max if num_tokens else 0.0,
    }
    for name, total, above, below in zip(BUCKET_NAMES, tokens, high, low, strict=True):
        metrics[f"clip/high_frac/{name}"] = _share(above, total)
        metrics[f"clip/low_frac/{name}"] = _share(below, total)
    return metrics


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
