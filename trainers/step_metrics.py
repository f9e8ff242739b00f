"""Metrics of an optimizer step: numerators and denominators of all its tokens, over all processes.

Shapes: N tokens, C entries of a clip-count vector (clip_metrics.py), R such vectors.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor

from trainers.clip_metrics import clip_metrics, merge_clip_counts, token_clip_ratio

LARGE_MISMATCH = 0.1
"""Nats: engine and trainer log-probs that differ by more are counted as large."""


class StepMetrics:
    """Collects the micro-batches of one optimizer step."""

    def __init__(self) -> None:
        self._clip_counts: list[Tensor] = []
        self._sums: dict[str, Tensor] = {}

    def add(self, clip_counts_C: Tensor, **values_N: Tensor) -> None:
        """Add a micro-batch: its clip counts, and values per loss token whose means are wanted."""
        self._clip_counts.append(clip_counts_C)
        for name, value_N in values_N.items():
            sums = torch.stack([value_N.detach().sum(), value_N.new_tensor(value_N.numel())])
            self._sums[name] = self._sums[name] + sums if name in self._sums else sums

    def flush(self, accelerator: Accelerator) -> dict[str, float]:
        """The step's metrics over all processes; collective. Starts the next step.

        clip/...: see `clip_metrics`; clip/tcr: mean over micro-batches of the token clip ratio;
        policy/<name>: mean over loss tokens.
        """
        counts_RC = accelerator.gather(torch.stack(self._clip_counts))
        ratios = [token_clip_ratio(counts_C) for counts_C in counts_RC]
        metrics = clip_metrics(merge_clip_counts(counts_RC))
        metrics["clip/tcr"] = sum(ratios) / len(ratios)
        for name, sums in self._sums.items():
            total, count = accelerator.reduce(sums, reduction="sum").tolist()
            metrics[f"policy/{name}"] = total / max(count, 1.0)
        self._clip_counts, self._sums = [], {}
        return metrics


def mismatch_metrics(gap_N: Tensor, accelerator: Accelerator) -> dict[str, float]:
    """Largest and mean abs difference of engine and trainer log-probs over all processes, nats.

    Args:
        gap_N: Abs differences at this process's loss tokens; may be empty.
        accelerator: Collective.
    """
    large = (gap_N > LARGE_MISMATCH).sum().to(gap_N.dtype)
    sums = torch.stack([gap_N.sum(), gap_N.new_tensor(gap_N.numel()), large])
    total, count, num_large = accelerator.reduce(sums, reduction="sum").tolist()
    largest = accelerator.gather(gap_N.max() if gap_N.numel() else gap_N.new_zeros(())).max()
    return {
        "policy/engine_mismatch_max": largest.item(),
        "policy/engine_mismatch_mean": total / max(count, 1.0),
        "policy/engine_mismatch_large_frac": num_large / max(count, 1.0),
    }
