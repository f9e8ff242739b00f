"""StepPlan: which packed query token reads which slots, for one forward of the model.

Shapes: S spans, T packed query tokens, R rows (spans with one query token), M prefill blocks,
Q queries of a block, K keys (padded), F families (rows that share a prefix), E rows of a family.

The packed axis holds first the rows with one query token (decoding), then the spans with several:

    | r0 | r1 | r2 |  span 3: q q q q  |  span 4: q q  |
    '- one query --'-- causal inside the path ---------'

Key slots of a row are listed in order of position, so key j of a row is the token at position j, and
causality, padding and the sliding window are functions of j and of the position of the query.

Rows whose paths begin with the same slots form a family. The slots alone tell: a slot belongs to one
node, so equal leading slots mean a common prefix in the tree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from inference.native.tree_attention import TreePart, plan_tree

AttentionBackend = Literal["gather", "shared_prefix", "native"]
AttentionChoice = Literal["auto", "gather", "shared_prefix", "native"]

_MAX_BLOCK_SCORES = 1 << 20
"""Bound on queries x keys of one prefill call (per head)."""
_MAX_KEPT_MASK = 1 << 18
"""Elements of a mask that is kept from layer to layer."""
_MIN_SAVED_KEYS = 2048
"""Splitting off prefixes costs two more calls per layer; below this many saved reads it does not pay
(measured: 16 rows with 128 common keys are a tie, 128 rows with 64 gain 7 %)."""


@dataclass(slots=True, kw_only=True)
class KeyBlock:
    """Slots of the keys of one call and which of them a query sees."""

    slots: torch.Tensor
    """[B, K] int64, padded with a slot of the same row."""
    first: torch.Tensor
    """[B] position of the first key; the others follow without gaps."""
    stop: torch.Tensor
    """[B] position behind the last real key."""
    query_positions: torch.Tensor
    """[B, Q] int64."""
    _masks: dict[int | None, torch.Tensor | None] = field(default_factory=dict)

    def mask(self, window: int | None) -> torch.Tensor | None:
        """Return [B, Q, K] float32, 0 = visible and -inf = not, or None if everything is visible.

        Small masks are kept for the other layers; large ones cost less to make than to keep.
        """
        if window in self._masks:
            return self._masks[window]
        mask = self._new_mask(window)
        if mask.numel() > _MAX_KEPT_MASK:
            return mask
        self._masks[window] = mask if bool(mask.any()) else None
        return self._masks[window]

    def _new_mask(self, window: int | None) -> torch.Tensor:
        offset = torch.arange(self.slots.shape[1], device=self.slots.device)
        position = (self.first[:, None] + offset)[:, None]  # [B, 1, K]
        query = self.query_positions[:, :, None]
        hidden = (position > query) | (position >= self.stop[:, None, None])
        if window is not None:
            hidden |= position <= query - window
        return torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, -torch.inf)


@dataclass(frozen=True, slots=True)
class PrefillPart:
    """Blocks of several queries, padded to the same shape."""

    queries: torch.Tensor
    """[M, Q] index into the packed axis; padding repeats the first query of the block."""
    keys: KeyBlock
    sources: torch.Tensor
    """[t] index into the flattened [M*Q] of the real queries."""
    targets: torch.Tensor
    """[t] packed index of the real queries."""


@dataclass(frozen=True, slots=True)
class FamilyPart:
    """Prefixes that several decoding rows share."""

    rows: torch.Tensor
    """[F, E] row of each member; padding repeats the first."""
    members: torch.Tensor
    """[R] index into the flattened [F*E] of each row."""
    keys: KeyBlock


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """Who attends to what in one forward; the same for all layers."""

    token_ids_T: torch.Tensor
    positions_T: torch.Tensor
    write_slots_T: torch.Tensor
    logit_rows: torch.Tensor
    """Packed indices of the tokens whose logits are wanted."""
    num_rows: int
    """Tokens at the front of the packed axis that are the only query of their path."""
    rows: KeyBlock | None
    """Private keys of the decoding rows (all keys where `family` is None)."""
    family: FamilyPart | None
    prefill: tuple[PrefillPart, ...]
    tree: TreePart | None = None
    """Chains of the compiled kernel, which then does the work of `rows`, `family` and `prefill`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Query tokens of one forward: span i feeds the last `counts[i]` of its `lengths[i]` tokens."""

    slots: NDArray[np.int64]
    """[S, >= max(lengths)] slot of each position of the path of a span, spans with one token first."""
    lengths: NDArray[np.int64]
    """[S] tokens of the path up to the end of the span."""
    counts: NDArray[np.int64]
    """[S] query tokens, at least 1."""

    def packed_positions(self) -> NDArray[np.int64]:
        """Return [T] absolute positions of the packed query tokens."""
        starts = np.repeat(self.lengths - self.counts, self.counts)
        return starts + _ranges(self.counts)

    def packed_slots(self) -> NDArray[np.int64]:
        """Return [T] slots that the packed query tokens write."""
        span = np.repeat(np.arange(len(self.counts)), self.counts)
        return self.slots[span, self.packed_positions()]


def build_plan(
    spans: Spans,
    *,
    token_ids: NDArray[np.int64],
    logit_rows: NDArray[np.int64],
    backend: AttentionBackend,
    device: torch.device,
) -> StepPlan:
    """Return the plan of one forward.

    Args:
        spans: Query tokens and key slots.
        token_ids: [T] packed token ids.
        logit_rows: Packed indices whose logits are wanted.
        backend: See the module docstring.
        device: Where the index tensors live.
    """
    num_rows = int((spans.counts == 1).sum())
    assert (spans.counts[:num_rows] == 1).all(), "spans with one token come first"
    if backend == "native":
        return _native_plan(spans, num_rows, token_ids, logit_rows, device)
    rows = Spans(
        slots=spans.slots[:num_rows],
        lengths=spans.lengths[:num_rows],
        counts=spans.counts[:num_rows],
    )
    family, shared = _families(rows, device) if backend == "shared_prefix" else (None, None)
    return StepPlan(
        token_ids_T=_tensor(token_ids, device),
        positions_T=_tensor(spans.packed_positions(), device),
        write_slots_T=_tensor(spans.packed_slots(), device),
        logit_rows=_tensor(logit_rows, device),
        num_rows=num_rows,
        rows=_row_block(rows, shared, device) if num_rows else None,
        family=family,
        prefill=tuple(_prefill_parts(spans, num_rows, device)),
    )


def _native_plan(
    spans: Spans,
    num_rows: int,
    token_ids: NDArray[np.int64],
    logit_rows: NDArray[np.int64],
    device: torch.device,
) -> StepPlan:
    positions = spans.packed_positions()
    tree = plan_tree(
        slots=spans.slots, lengths=spans.lengths, counts=spans.counts, positions=positions
    )
    return StepPlan(
        token_ids_T=_tensor(token_ids, device),
        positions_T=_tensor(positions, device),
        write_slots_T=_tensor(spans.packed_slots(), device),
        logit_rows=_tensor(logit_rows, device),
        num_rows=num_rows,
        rows=None,
        family=None,
        prefill=(),
        tree=tree,
    )


def _row_block(rows: Spans, shared: NDArray[np.int64] | None, device: torch.device) -> KeyBlock:
    """Return the keys of each row behind its shared prefix (all keys without one)."""
    first = np.zeros_like(rows.lengths) if shared is None else shared
    width = int((rows.lengths - first).max())
    index = np.minimum(first[:, None] + np.arange(width), rows.lengths[:, None] - 1)
    return KeyBlock(
        slots=_tensor(np.take_along_axis(rows.slots, index, 1), device),
        first=_tensor(first, device),
        stop=_tensor(rows.lengths, device),
        query_positions=_tensor(rows.lengths[:, None] - 1, device),
    )


def _families(
    rows: Spans, device: torch.device
) -> tuple[FamilyPart | None, NDArray[np.int64] | None]:
    """Return the shared prefixes and how many tokens each row shares, or (None, None)."""
    if len(rows.lengths) < 2:
        return None, None
    _, leader, family = np.unique(rows.slots[:, 0], return_index=True, return_inverse=True)
    size = np.bincount(family)
    length = _common_lengths(rows, leader[family], family)
    if ((size - 1) * length).sum() < _MIN_SAVED_KEYS:
        return None, None
    place = _ranges(size)[np.argsort(np.argsort(family, kind="stable"), kind="stable")]
    members = family * size.max() + place
    flat = np.repeat(leader, size.max())
    flat[members] = np.arange(len(family))
    table = flat.reshape(len(size), -1)
    slots = rows.slots[leader, : max(1, length.max())]
    is_shared = np.arange(slots.shape[1]) < length[:, None]
    keys = KeyBlock(
        slots=_tensor(np.where(is_shared, slots, slots[:, :1]), device),
        first=_tensor(np.zeros_like(length), device),
        stop=_tensor(length, device),
        query_positions=_tensor(rows.lengths[table] - 1, device),
    )
    part = FamilyPart(_tensor(table, device), _tensor(members, device), keys)
    return part, length[family]


def _common_lengths(
    rows: Spans, leader_R: NDArray[np.int64], family_R: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return per family how many leading slots all its rows share, the last token of a row excluded."""
    width = int(rows.lengths.max())
    slots = rows.slots[:, :width]
    ends = np.arange(width) >= rows.lengths[:, None] - 1
    common_R = ((slots != slots[leader_R]) | ends).argmax(1)
    common = np.full(family_R.max() + 1, width, dtype=np.int64)
    np.minimum.at(common, family_R, common_R)
    return common


def _prefill_parts(spans: Spans, num_rows: int, device: torch.device) -> list[PrefillPart]:
    """Cut long spans into blocks of bounded work and pad blocks of similar size together."""
    blocks: list[tuple[int, int, int, int]] = []  # (keys, queries, span, packed index)
    packed = num_rows
    for span in range(num_rows, len(spans.counts)):
        start, end = int(spans.lengths[span] - spans.counts[span]), int(spans.lengths[span])
        step = max(1, _MAX_BLOCK_SCORES // end)
        for begin in range(start, end, step):
            stop = min(begin + step, end)
            blocks.append((stop, stop - begin, span, packed + begin - start))
        packed += end - start
    blocks.sort()
    parts, group = [], blocks[:0]
    for block in blocks:
        widest = max([block[1], *(other[1] for other in group)])
        if group and (len(group) + 1) * widest * block[0] > _MAX_BLOCK_SCORES:
            parts.append(_prefill_part(spans, group, device))
            group = []
        group.append(block)
    if group:
        parts.append(_prefill_part(spans, group, device))
    return parts


def _prefill_part(
    spans: Spans, blocks: list[tuple[int, int, int, int]], device: torch.device
) -> PrefillPart:
    num_keys, num_queries, span, packed = (np.array(column) for column in zip(*blocks, strict=True))
    query = np.arange(num_queries.max())
    is_real = query < num_queries[:, None]
    offset = np.where(is_real, query, 0)
    index = np.minimum(np.arange(num_keys.max()), num_keys[:, None] - 1)
    keys = KeyBlock(
        slots=_tensor(np.take_along_axis(spans.slots[span], index, 1), device),
        first=_tensor(np.zeros_like(num_keys), device),
        stop=_tensor(num_keys, device),
        query_positions=_tensor((num_keys - num_queries)[:, None] + offset, device),
    )
    queries = packed[:, None] + offset
    return PrefillPart(
        queries=_tensor(queries, device),
        keys=keys,
        sources=_tensor(np.flatnonzero(is_real), device),
        targets=_tensor(queries[is_real], device),
    )


def _ranges(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0..counts[0]-1, 0..counts[1]-1, ... in one array."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)


def _tensor(array: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64)).to(device)
