"""From logits to tokens, log-probs and entropies: a pure function of logits, settings and uniforms.

Shapes: R rows (one per request), V vocabulary, C chunk of rows.

Inverse-CDF sampling with one uniform number per token and a two-level search: sums over 128 tokens,
cumulative sum of the sums, pick the block, cumulative sum inside the block, pick the token. Rows are
processed in chunks of at most 1 MiB, because page faults on large temporaries dominate on a CPU.

The order of the filters is top-k, then top-p on the renormalised rest, then min-p. Among equal
probabilities the lower token id comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from inference.requests import SamplingParams

BLOCK = 128
_CHUNK_ELEMENTS = 262144


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """One drawn token per row, with its statistics."""

    token_ids: NDArray[np.int64]
    """[R] drawn tokens."""
    logprobs: NDArray[np.float32]
    """[R] raw log-probs at the sampling temperature (temperature 0: at temperature 1), nats."""
    behaviour_logprobs: NDArray[np.float32]
    """[R] log-probs under the law drawn from, after the filters (temperature 0: 0), nats."""
    entropies: NDArray[np.float32]
    """[R] entropies of the raw law, nats."""


@dataclass(frozen=True, slots=True)
class SamplingRows:
    """The sampling settings of all rows, as tensors [R]."""

    temperature: torch.Tensor
    top_p: torch.Tensor
    top_k: torch.Tensor
    min_p: torch.Tensor

    @classmethod
    def of(cls, params: Sequence[SamplingParams], device: torch.device) -> SamplingRows:
        """Return the settings of `params`, one per row, on `device`."""
        floats = [(p.temperature, p.top_p, p.min_p) for p in params]
        columns = torch.tensor(floats, dtype=torch.float32, device=device).view(-1, 3).unbind(1)
        top_k = torch.tensor([p.top_k for p in params], dtype=torch.int64, device=device)
        return cls(columns[0], columns[1], top_k, columns[2])

    def rows(self, start: int, stop: int) -> SamplingRows:
        """Return the settings of rows start..stop-1."""
        fields = (self.temperature, self.top_p, self.top_k, self.min_p)
        return SamplingRows(*(field[start:stop] for field in fields))


def sample(
    logits_UV: torch.Tensor,
    params: Sequence[SamplingParams],
    uniforms_R: NDArray[np.float64],
    *,
    source_R: ArrayLike | None = None,
) -> Draws:
    """Draw one token per row.

    Args:
        logits_UV: [U, V] logits of any floating dtype; converted to float32 first.
        params: Settings of the R rows.
        uniforms_R: [R] numbers in [0, 1).
        source_R: Which row of `logits_UV` each of the R rows uses; None means row i uses logits i.

    Returns:
        Tokens and statistics of the R rows.

    Raises:
        FloatingPointError: A row has no finite statistics (NaN logits, or all of them -inf).
    """
    device = logits_UV.device
    settings = SamplingRows.of(params, device)
    source = np.arange(len(params)) if source_R is None else np.asarray(source_R, dtype=np.int64)
    rows = torch.as_tensor(source, device=device)
    uniform = torch.as_tensor(uniforms_R, dtype=torch.float64).to(device)
    size = max(1, _CHUNK_ELEMENTS // logits_UV.shape[1])
    parts = [
        _sample_chunk(
            logits_UV.index_select(0, rows[start : start + size]).float(),
            settings.rows(start, start + size),
            uniform[start : start + size],
        )
        for start in range(0, len(params), size)
    ]
    return _draws(parts)


def entropy_and_log_partition(
    shifted_CV: torch.Tensor, weights_CV: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the entropy and log Z of the law exp(x)/Z, where the maximum of each row of x is 0.

    Args:
        shifted_CV: [C, V] float32, logits divided by the temperature minus the row maximum; finite.
        weights_CV: [C, V] float32, exp of them.

    Returns:
        Two tensors [C] float32 in nats: H = log Z - sum(e * x) / Z, and log Z.
    """
    total_C = weights_CV.sum(-1)
    moment_C = (weights_CV * shifted_CV).sum(-1)
    log_total_C = total_C.log()
    return log_total_C - moment_C / total_C, log_total_C


def inverse_cdf(weights_CV: torch.Tensor, uniform_C: torch.Tensor) -> torch.Tensor:
    """Return the token whose interval of the cumulative weights holds `uniform * total`.

    A token of weight 0 is never returned, also when rounding puts the target at the very end.

    Args:
        weights_CV: [C, V] float32, not negative, at least one positive per row.
        uniform_C: [C] float64 in [0, 1).

    Returns:
        [C] int64.
    """
    num_rows, vocabulary = weights_CV.shape
    padding = -vocabulary % BLOCK
    blocks = torch.nn.functional.pad(weights_CV, (0, padding)).view(num_rows, -1, BLOCK)
    cumulative = blocks.sum(-1).double().cumsum(-1)
    target = uniform_C[:, None] * cumulative[:, -1:]
    block = _first_above(cumulative, target)
    below = torch.where(block > 0, cumulative.gather(1, (block - 1).clamp_min(0)), 0.0)
    chosen = blocks.gather(1, block[:, :, None].expand(-1, 1, BLOCK)).squeeze(1)
    token = _first_above(chosen.double().cumsum(-1), target - below)
    return (block * BLOCK + token).squeeze(1)


def kept_tokens(probs_CV: torch.Tensor, settings: SamplingRows) -> torch.Tensor:
    """Return which tokens survive top-k, then top-p, then min-p; the most probable one always does.

    Args:
        probs_CV: [C, V] float32 probabilities or weights proportional to them.
        settings: Settings of the C rows.

    Returns:
        [C, V] bool, True = keep.
    """
    ranked, order = probs_CV.sort(dim=-1, descending=True, stable=True)
    vocabulary = probs_CV.shape[1]
    rank = torch.arange(vocabulary, device=probs_CV.device)
    limit = torch.where(settings.top_k > 0, settings.top_k, vocabulary)
    keep = rank < limit[:, None]
    ranked = ranked.masked_fill(~keep, 0.0)
    mass_before = ranked.double().cumsum(-1) - ranked
    total = ranked.double().sum(-1, keepdim=True)
    is_off = settings.top_p[:, None] >= 1.0
    keep &= is_off | (mass_before < settings.top_p[:, None].double() * total)
    keep &= ranked >= settings.min_p[:, None] * ranked[:, :1]
    keep[:, 0] = True
    return torch.zeros_like(keep).scatter(1, order, keep)


def _sample_chunk(
    logits_CV: torch.Tensor, settings: SamplingRows, uniform_C: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    is_greedy = settings.temperature == 0.0
    scale = torch.where(is_greedy, 1.0, settings.temperature)
    scaled_CV = logits_CV / scale[:, None]
    # -inf logits get weight 0 either way, but 0 * -inf in the entropy would be NaN
    shifted_CV = (scaled_CV - scaled_CV.amax(-1, keepdim=True)).clamp_min_(-1e4)
    weights_CV = shifted_CV.exp()
    entropy_C, log_total_C = entropy_and_log_partition(shifted_CV, weights_CV)
    weights_CV, log_kept_C = _filtered(weights_CV, settings)
    token_C = inverse_cdf(weights_CV, uniform_C)
    if bool(is_greedy.any()):
        token_C = torch.where(is_greedy, logits_CV.argmax(-1), token_C)
    chosen_C = shifted_CV.gather(1, token_C[:, None]).squeeze(1)
    logprob_C = chosen_C - log_total_C
    log_mass_C = torch.where(log_kept_C.isnan(), log_total_C, log_kept_C)
    behaviour_C = torch.where(is_greedy, 0.0, chosen_C - log_mass_C)
    return token_C, logprob_C, behaviour_C, entropy_C


def _filtered(
    weights_CV: torch.Tensor, settings: SamplingRows
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weights with filtered tokens at 0 and the log of their sum (NaN where unfiltered)."""
    needs = (settings.top_k > 0) | (settings.top_p < 1.0) | (settings.min_p > 0.0)
    log_kept_C = torch.full_like(weights_CV[:, 0], torch.nan)
    if not bool(needs.any()):
        return weights_CV, log_kept_C
    kept_CV = weights_CV.masked_fill(~kept_tokens(weights_CV, settings), 0.0)
    return (
        torch.where(needs[:, None], kept_CV, weights_CV),
        torch.where(needs, kept_CV.sum(-1).log(), log_kept_C),
    )


def _first_above(cumulative: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return per row the first index whose value exceeds the target, at most the last that grows."""
    last = (cumulative < cumulative[:, -1:]).sum(-1, keepdim=True)
    return torch.minimum((cumulative <= target).sum(-1, keepdim=True), last)


def _draws(parts: Sequence[tuple[torch.Tensor, ...]]) -> Draws:
    token, logprob, behaviour, entropy = (
        torch.cat(columns).cpu().numpy() for columns in zip(*parts, strict=True)
    )
    if not (np.isfinite(logprob).all() and np.isfinite(entropy).all()):
        raise FloatingPointError(
            "the model returned NaN logits (or only -inf) for a token to be drawn; "
            "check the weights after the last optimizer step"
        )
    return Draws(token_ids=token, logprobs=logprob, behaviour_logprobs=behaviour, entropies=entropy)
