"""Attention of packed query tokens over stored keys and values.

Shapes: T packed query tokens, R rows (one query token each), M prefill blocks, Q queries of a block,
K stored keys (padded), H query heads, G kv heads, N = H/G query heads per kv head, D head width,
F families (rows that share a prefix), E rows of a family (padded).

What is read by whom is fixed by a `StepPlan` (step_plan.py), built once per forward and used by all
layers. Two backends give equal results up to rounding:

* "gather": each row gathers all its keys. The plain version.
* "shared_prefix": the prefix that several rows share is read once for all of them, the rest per row,
  and the two partial softmaxes are merged by their log-sum-exp.

Softmax and sums are float32; one rounding to the model's dtype at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from inference.native.tree_attention import attend_tree
from inference.step_plan import FamilyPart, PrefillPart, StepPlan


class KVReader(Protocol):
    """What attention needs of a KV representation."""

    def read(self, layer: int, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values [G, *slots.shape, D] of `slots`."""
        ...

    def store(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return all keys and values [G, slots, D] of a layer, not copied."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSettings:
    """Per-call settings that a layer passes."""

    scale: float
    window: int | None = None
    """A query at position p sees keys p-window+1..p; None = all."""
    softcap: float | None = None
    """Scores become softcap * tanh(scores / softcap)."""
    sinks_H: torch.Tensor | None = None
    """[H] logits of a key without value (attention sinks)."""


def attend(
    plan: StepPlan,
    kv: KVReader,
    layer: int,
    query_HTD: torch.Tensor,
    settings: AttentionSettings,
) -> torch.Tensor:
    """Return the attention output [T, H, Dv] of all packed queries, in the dtype of the query.

    Args:
        plan: Plan of this forward; the keys of its own tokens are already written.
        kv: Store of keys and values.
        layer: Layer index.
        query_HTD: [H, T, D] queries, rotary embedding applied.
        settings: Scale, window, softcap, sinks of the layer.
    """
    if plan.tree is not None:
        keys, values = kv.store(layer)
        return attend_tree(
            plan.tree,
            query_HTD,
            keys,
            values,
            scale=settings.scale,
            window=settings.window,
            softcap=settings.softcap,
            sinks_H=settings.sinks_H,
        )
    num_heads, num_tokens, _ = query_HTD.shape
    out: torch.Tensor | None = None
    if plan.rows is not None:
        part = _attend_rows(plan, kv, layer, query_HTD[:, : plan.num_rows], settings)
        out = part.new_empty((num_tokens, num_heads, part.shape[-1]))
        out[: plan.num_rows] = part
    for prefill in plan.prefill:
        part = _attend_prefill(prefill, kv, layer, query_HTD, settings)
        if out is None:
            out = part.new_empty((num_tokens, num_heads, part.shape[-1]))
        out[prefill.targets] = part.to(out.dtype)
    assert out is not None, "a plan without queries"
    return out.to(query_HTD.dtype)


def merge(
    out_a: torch.Tensor, lse_a: torch.Tensor, out_b: torch.Tensor, lse_b: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return attention over the union of two disjoint key sets.

    l = logaddexp(l_a, l_b), o = o_a + (o_b - o_a) * sigmoid(l_b - l_a). An empty set has l = -inf and
    leaves the other operand as it is; not both may be empty.

    Args:
        out_a: [..., D] float32 softmax-weighted values over the first set.
        lse_a: [...] float32 log-sum-exp of its scores.
        out_b: [..., D] float32, second set.
        lse_b: [...] float32.
    """
    share_b = torch.sigmoid(lse_b - lse_a)[..., None]
    return out_a + (out_b - out_a) * share_b, torch.logaddexp(lse_a, lse_b)


def partial_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    settings: AttentionSettings,
    mask: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return softmax-weighted values and log-sum-exp over one set of keys, in float32.

    Args:
        query: [..., Q, D].
        keys: [..., K, D]; K may be 0.
        values: [..., K, Dv].
        settings: Scale and softcap are used; window and sinks are not.
        mask: Added to the scores, broadcastable to [..., Q, K], or None.

    Returns:
        [..., Q, Dv] and [..., Q]; a query that sees no key has output 0 and log-sum-exp -inf.
    """
    if keys.shape[-2] == 0:  # some CPU kernels crash the process on zero keys
        out = query.new_zeros((*query.shape[:-1], values.shape[-1]), dtype=torch.float32)
        return out, out.new_full(query.shape[:-1], -torch.inf)
    scores = (query.float() * settings.scale) @ keys.float().transpose(-1, -2)
    if settings.softcap is not None:
        scores = settings.softcap * torch.tanh(scores / settings.softcap)
    if mask is not None:
        scores = scores + mask
    top = scores.amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).min)
    weights = (scores - top).exp_()
    total = weights.sum(-1, keepdim=True)
    out = (weights @ values.float()) / total.clamp_min(torch.finfo(torch.float32).tiny)
    return out, (top + total.log()).squeeze(-1)


def _attend_rows(
    plan: StepPlan,
    kv: KVReader,
    layer: int,
    query_HRD: torch.Tensor,
    settings: AttentionSettings,
) -> torch.Tensor:
    """Return [R, H, Dv] float32 for rows with one query token each."""
    assert plan.rows is not None
    keys, values = kv.read(layer, plan.rows.slots)  # [G, R, K, D]
    query = query_HRD.unflatten(0, (keys.shape[0], -1)).transpose(1, 2)  # [G, R, N, D]
    out, lse = partial_attention(query, keys, values, settings, plan.rows.mask(settings.window))
    if plan.family is not None:
        prefix_out, prefix_lse = _attend_prefixes(plan.family, kv, layer, query, settings)
        out, lse = merge(out, lse, prefix_out, prefix_lse)
    out, lse = out.transpose(1, 2).flatten(0, 1), lse.transpose(1, 2).flatten(0, 1)  # [H, R, D]
    return _with_sinks(out, lse, settings).transpose(0, 1)


def _attend_prefixes(
    family: FamilyPart,
    kv: KVReader,
    layer: int,
    query: torch.Tensor,
    settings: AttentionSettings,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return [G, R, N, Dv] and [G, R, N] over the shared prefix of each row."""
    keys, values = kv.read(layer, family.keys.slots)  # [G, F, K, D]
    num_families, size = family.rows.shape
    grouped = query[:, family.rows].flatten(2, 3)  # [G, F, E*N, D]
    mask = family.keys.mask(settings.window)
    if mask is not None:
        mask = mask.repeat_interleave(query.shape[2], dim=1)
    out, lse = partial_attention(grouped, keys, values, settings, mask)
    shape = (num_families * size, query.shape[2])
    out, lse = out.flatten(1, 2).unflatten(1, shape), lse.flatten(1, 2).unflatten(1, shape)
    return out[:, family.members], lse[:, family.members]


def _attend_prefill(
    part: PrefillPart,
    kv: KVReader,
    layer: int,
    query_HTD: torch.Tensor,
    settings: AttentionSettings,
) -> torch.Tensor:
    """Return [t, H, Dv] of the real queries of padded blocks."""
    keys, values = kv.read(layer, part.keys.slots)  # [G, M, K, D]
    query = query_HTD[:, part.queries]  # [H, M, Q, D]
    mask = part.keys.mask(settings.window)
    mask = None if mask is None else mask[:, None]
    if settings.softcap is None and settings.sinks_H is None:
        out = _fused(query, keys, values, settings.scale, mask).flatten(1, 2)
    else:
        grouped = query.unflatten(0, (keys.shape[0], -1)).transpose(1, 2)  # [G, M, N, Q, D]
        partial = partial_attention(grouped, keys[:, :, None], values[:, :, None], settings, mask)
        out, lse = (p.transpose(1, 2).flatten(0, 1).flatten(1, 2) for p in partial)
        out = _with_sinks(out, lse, settings)  # [H, M*Q, D]
    return out[:, part.sources].transpose(0, 1)


def _fused(
    query_HMQD: torch.Tensor,
    keys_GMKD: torch.Tensor,
    values_GMKD: torch.Tensor,
    scale: float,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """Return [H, M, Q, Dv] by torch's fused attention, which is faster for many queries."""
    repeats = len(query_HMQD) // len(keys_GMKD)
    keys, values = (part.repeat_interleave(repeats, 0) for part in (keys_GMKD, values_GMKD))
    out = torch.nn.functional.scaled_dot_product_attention(
        query_HMQD.transpose(0, 1),
        keys.to(query_HMQD.dtype).transpose(0, 1),
        values.to(query_HMQD.dtype).transpose(0, 1),
        attn_mask=None if mask is None else mask.to(query_HMQD.dtype),
        scale=scale,
    )
    return out.transpose(0, 1)


def _with_sinks(out: torch.Tensor, lse: torch.Tensor, settings: AttentionSettings) -> torch.Tensor:
    """Scale outputs [H, R, D] by the share that the keys keep from the sink."""
    if settings.sinks_H is None:
        return out
    return out * torch.sigmoid(lse - settings.sinks_H.float()[:, None])[..., None]
