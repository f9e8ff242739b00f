"""From logits to the law that is really sampled: temperature, top-k, top-p, min-p; mixtures of laws.

The filters are those of plain decoding (`inference.sampling.kept_tokens`), so speculation and plain
decoding have the same target. A drafter's rows go through the same function: any setting is allowed
there, as long as the accept rule is given the row that was drawn from, after processing.

Shapes: R rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from inference.requests import SamplingParams
from inference.sampling import SamplingRows, kept_tokens
from inference.speculative.laws import Probs

TargetLaw = Callable[[int], Probs]
"""Node of the draft tree (-1 = root) -> processed law [V] of the token that follows it."""


def processed_laws(logits_RV: torch.Tensor, sampling: SamplingParams) -> NDArray[np.float64]:
    """Return the laws that plain decoding with these settings draws from.

    Temperature 0 gives one-hot rows at the argmax (ties: the lowest token id).

    Args:
        logits_RV: [R, V] logits of any floating dtype; half precision is converted to float32 first.
        sampling: Settings of all rows.

    Returns:
        [R, V] float64, each row sums to 1.

    Raises:
        FloatingPointError: A row has NaN logits or only -inf.
    """
    logits_RV = logits_RV if logits_RV.dtype == torch.float64 else logits_RV.float()
    if sampling.temperature == 0.0:
        return _one_hot(logits_RV)
    scaled_RV = logits_RV / sampling.temperature
    weights_RV = (scaled_RV - scaled_RV.amax(-1, keepdim=True)).exp()
    if sampling.top_k > 0 or sampling.top_p < 1.0 or sampling.min_p > 0.0:
        settings = SamplingRows.of([sampling] * len(weights_RV), weights_RV.device)
        weights_RV = weights_RV.masked_fill(~kept_tokens(weights_RV, settings), 0.0)
    weights_RV = weights_RV.double()
    laws_RV: NDArray[np.float64] = (weights_RV / weights_RV.sum(-1, keepdim=True)).cpu().numpy()
    if not np.isfinite(laws_RV).all():
        raise FloatingPointError(
            "a row of logits holds NaN or only -inf; check the weights of the model that gave it"
        )
    return laws_RV


def ensemble_target(target: TargetLaw, draft: TargetLaw, weight: float) -> TargetLaw:
    """Return the mixture w p + (1 - w) q as the target: lossy for p, decoded exactly itself.

    For one draft token from q this is acceptance with min(1, 1 - w + w p/q) and the residual
    norm((p - q)+), which other libraries offer as an assistant's ensemble weight.

    Args:
        target: p at each node.
        draft: q at each node, also at leaves.
        weight: w in [0, 1]; 1 = the target alone.
    """
    if not 0.0 <= weight <= 1.0:
        raise ValueError(f"weight={weight} is outside [0, 1]; 1 = the target alone")
    return lambda node: weight * target(node) + (1.0 - weight) * draft(node)


def _one_hot(logits_RV: torch.Tensor) -> NDArray[np.float64]:
    values = logits_RV.cpu().numpy()
    if np.isnan(values).any():
        raise FloatingPointError("a row of logits holds NaN; check the weights of the model")
    laws_RV = np.zeros(values.shape, dtype=np.float64)
    # numpy's argmax is the first maximum; torch does not promise which one it returns
    laws_RV[np.arange(len(values)), values.argmax(-1)] = 1.0
    return laws_RV
