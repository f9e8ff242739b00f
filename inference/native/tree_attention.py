"""Python side of the compiled kernel: which paths share what (once per forward), attention (per layer).

Shapes: S spans, T packed query tokens, C chains, E entries (one per chain and member), H query heads,
G kv heads, D head width.

A chain is a run of positions that several query tokens have in common; it is read once for all of
them. `plan_tree` finds the chains from the slots: equal leading slots mean a common prefix. Any number
of levels is shared, and nothing is gathered or copied: the kernel reads keys and values in place.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from inference.native.build import load_kernel

MIN_SAVED_KEYS = 8
"""A common run becomes a chain of its own if that saves this many reads of a key. Measured on Zen 4: a
chain costs about as much as reading 8 keys."""

_PLAN_SIZES = ("num_spans", "num_tokens", "num_chains", "num_entries", "slots_stride")
_PLAN_ARRAYS = (
    *("slots", "positions", "leader", "first", "num_keys", "entry_begin"),
    *("member", "token_begin", "token_entry"),
)
_CALL_SIZES = (
    *("num_heads", "num_kv_heads", "width", "value_width"),
    *("query_head_stride", "query_token_stride", "kv_head_stride", "value_head_stride"),
    *("window", "is_bfloat16", "keys_are_bfloat16", "values_are_bfloat16", "num_threads"),
)


class _Plan(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in _PLAN_SIZES] + [
        (name, ctypes.c_void_p) for name in _PLAN_ARRAYS
    ]


class _Call(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in _CALL_SIZES),
        ("scale", ctypes.c_float),
        ("softcap", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("query", "keys", "values", "sinks", "out")),
    ]


@dataclass(frozen=True, slots=True)
class TreePart:
    """Chains of one forward; keeps the arrays alive that the kernel points into."""

    plan: _Plan
    arrays: dict[str, NDArray[np.int64]] = field(repr=False)

    @property
    def num_chains(self) -> int:
        """Runs of positions that are read once each."""
        return int(self.plan.num_chains)

    @property
    def num_keys_read(self) -> int:
        """Keys that each layer reads (of each kv head), without a window."""
        return int(self.arrays["num_keys"][: self.num_chains].sum())


def is_available(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernel can run for a model on this device with this dtype."""
    return (
        device.type == "cpu"
        and dtype in (torch.float32, torch.bfloat16)
        and load_kernel() is not None
    )


def plan_tree(
    *,
    slots: NDArray[np.int64],
    lengths: NDArray[np.int64],
    counts: NDArray[np.int64],
    positions: NDArray[np.int64],
) -> TreePart:
    """Return the chains of one forward.

    Args:
        slots: [S, >= max(lengths)] slot of each position of the path of each span.
        lengths: [S] tokens of each path.
        counts: [S] query tokens: the last ones of the path.
        positions: [T] absolute positions of the packed query tokens.
    """
    num_spans, num_tokens = len(lengths), len(positions)
    num_entries = num_spans * num_spans + num_tokens  # each token is in at most S chains
    sizes = {
        "leader": 2 * num_spans,
        "first": 2 * num_spans,
        "num_keys": 2 * num_spans,
        "entry_begin": 2 * num_spans + 1,
        "member": num_entries,
        "token_begin": num_tokens + 1,
        "token_entry": num_entries,
    }
    arrays: dict[str, NDArray[np.int64]] = {
        name: np.empty(size, dtype=np.int64) for name, size in sizes.items()
    }
    arrays["slots"] = np.ascontiguousarray(slots, dtype=np.int64)
    arrays["positions"] = np.ascontiguousarray(positions, dtype=np.int64)
    pointers = {name: array.ctypes.data for name, array in arrays.items()}
    plan = _Plan(
        num_spans=num_spans,
        num_tokens=num_tokens,
        slots_stride=arrays["slots"].shape[1],
        **pointers,
    )
    kernel = load_kernel()
    assert kernel is not None, "plan_tree without a kernel"
    lengths, counts = (np.ascontiguousarray(a, dtype=np.int64) for a in (lengths, counts))
    kernel.plan_chains(
        ctypes.byref(plan),
        ctypes.c_void_p(lengths.ctypes.data),
        ctypes.c_void_p(counts.ctypes.data),
        ctypes.c_int64(MIN_SAVED_KEYS),
    )
    return TreePart(plan, arrays)


def attend_tree(
    part: TreePart,
    query_HTD: torch.Tensor,
    keys_GSD: torch.Tensor,
    values_GSD: torch.Tensor,
    *,
    scale: float,
    window: int | None,
    softcap: float | None,
    sinks_H: torch.Tensor | None,
) -> torch.Tensor:
    """Return the attention output [T, H, Dv] of all packed queries, in the dtype of the query.

    Args:
        part: Chains of this forward.
        query_HTD: [H, T, D] queries, float32 or bfloat16.
        keys_GSD: [G, slots, D] the whole store of a layer, float32 or bfloat16.
        values_GSD: [G, slots, Dv].
        scale: Scale of the scores.
        window: A query at position p sees keys p-window+1..p; None = all.
        softcap: Scores become softcap * tanh(scores / softcap).
        sinks_H: [H] logits of a key without value.
    """
    query = query_HTD if query_HTD.stride(2) == 1 else query_HTD.contiguous()
    if query.dtype not in (torch.float32, torch.bfloat16):
        query = query.float()
    sinks = None if sinks_H is None else sinks_H.float().contiguous()
    num_heads, num_tokens, width = query.shape
    out = query.new_empty((num_tokens, num_heads, values_GSD.shape[2]))
    call = _Call(
        num_heads,
        keys_GSD.shape[0],
        width,
        values_GSD.shape[2],
        query.stride(0),
        query.stride(1),
        keys_GSD.stride(0),
        values_GSD.stride(0),
        window or 0,
        query.dtype == torch.bfloat16,
        keys_GSD.dtype == torch.bfloat16,
        values_GSD.dtype == torch.bfloat16,
        torch.get_num_threads(),
        scale,
        softcap or 0.0,
        query.data_ptr(),
        keys_GSD.data_ptr(),
        values_GSD.data_ptr(),
        None if sinks is None else sinks.data_ptr(),
        out.data_ptr(),
    )
    kernel = load_kernel()
    assert kernel is not None, "attend_tree without a kernel"
    kernel.attend(ctypes.byref(part.plan), ctypes.byref(call))
    return out.to(query_HTD.dtype)
