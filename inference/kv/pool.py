"""Slots for keys and values: who owns which slot, and the tensors behind them.

A slot holds the key and the value of one token in every layer. Layout of one layer:

    keys    [K, slots, D]      slot 0 | slot 1 | slot 2 | ...      K kv heads, D head width
    values  [K, slots, Dv]

This is the full-precision representation. Another representation (quantised, compressed) replaces
`FullKV`: the attention backends only call `write` and `read`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from inference.native.row_ops import write_slots

_FIRST_CAPACITY = 1024
_PAGE = 16
"""Slots of a page: 2 KiB of a kv head of width 64 in bfloat16, enough for the hardware to read ahead."""
_MIN_SCATTERED = 1024
"""Free slots at the ends of pages that are always tolerated; beyond, half of the used ones."""


class KVBudgetError(RuntimeError):
    """The KV budget is used up; the message says what is needed, what is free and what to do."""

    def __init__(self, *, needed: int, free: int, budget: int) -> None:
        super().__init__(
            f"{needed} more KV slots are needed (one per token), {free} of the budget of {budget} can "
            f"be made free; raise max_kv_tokens to at least {budget - free + needed}, or use shorter "
            "prompts or fewer new tokens"
        )
        self.needed = needed
        self.free = free
        self.budget = budget


class SlotPool:
    """Free slots with an optional hard limit; consecutive tokens get consecutive slots where possible.

    Slots come in pages. A run of tokens takes the slot behind its last one, or begins at a whole free
    page, so that a path is read in order of memory. That leaves free slots at the ends of pages; when
    they become too many, or the limit is reached, they are used in any order.
    """

    def __init__(self, max_tokens: int | None = None) -> None:
        self.max_tokens = max_tokens
        self.num_used = 0
        self._num_created = 0
        self._free: set[int] = set()
        self._whole: list[int] = []  # candidates for whole free pages
        self._page_used: list[int] = []

    @property
    def num_free(self) -> int | None:
        """Slots that can still be taken; None without a limit."""
        return None if self.max_tokens is None else self.max_tokens - self.num_used

    @property
    def num_created(self) -> int:
        """All slots that were ever handed out are below this number."""
        return self._num_created

    def fits(self, count: int) -> bool:
        """Tell whether `count` slots can be taken."""
        return self.max_tokens is None or self.num_used + count <= self.max_tokens

    def take(self, count: int, after: int | None = None) -> list[int]:
        """Take `count` slots, if possible those that follow the slot `after`.

        Raises:
            KVBudgetError: Fewer are free.
        """
        if not self.fits(count):
            assert self.max_tokens is not None
            raise KVBudgetError(
                needed=count, free=self.max_tokens - self.num_used, budget=self.max_tokens
            )
        taken: list[int] = []
        slot = -1 if after is None else after
        for _ in range(count):
            slot = slot + 1 if slot >= 0 and slot + 1 in self._free else self._new_run()
            self._free.remove(slot)
            self._page_used[slot // _PAGE] += 1
            taken.append(slot)
        self.num_used += count
        return taken

    def give(self, slots: Sequence[int]) -> None:
        """Give slots back."""
        self._free.update(slots)
        self.num_used -= len(slots)
        assert self.num_used >= 0, "more slots were given back than taken"
        for slot in slots:
            page = slot // _PAGE
            self._page_used[page] -= 1
            if self._page_used[page] == 0:
                self._whole.append(page)

    def reset(self) -> None:
        """Start over with slot 0; all slots must have been given back."""
        assert self.num_used == 0, f"{self.num_used} slots are still in use"
        self._num_created = 0
        self._free, self._whole, self._page_used = set(), [], []

    def free_slots(self) -> frozenset[int]:
        """Return the slots below `num_created` that nobody owns."""
        return frozenset(self._free)

    def _new_run(self) -> int:
        """Return the free slot at which a run begins."""
        while self._whole:
            page = self._whole.pop()
            if self._page_used[page] == 0:
                return page * _PAGE
        is_full = self.max_tokens is not None and self._num_created >= self.max_tokens
        if is_full or len(self._free) > max(_MIN_SCATTERED, self.num_used // 2):
            return next(iter(self._free))
        return self._create_page()

    def _create_page(self) -> int:
        first, stop = self._num_created, self._num_created + _PAGE
        stop = stop if self.max_tokens is None else min(stop, self.max_tokens)
        self._free.update(range(first, stop))
        self._page_used.append(0)
        self._num_created = stop
        return first


class FullKV:
    """Keys and values of all layers in the model's own precision, growing on demand."""

    exactness = "exact"

    def __init__(self) -> None:
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.bytes_per_token = 0

    @property
    def reserved_bytes(self) -> int:
        """Bytes of the tensors, used slots and free ones."""
        return sum(k.nbytes + v.nbytes for k, v in self._layers.values())

    def write(
        self, layer: int, slots_T: torch.Tensor, keys_KTD: torch.Tensor, values_KTD: torch.Tensor
    ) -> None:
        """Store keys and values [K, T, D] of T tokens at their slots."""
        if layer not in self._layers:
            self._create(layer, keys_KTD, values_KTD, int(slots_T.max()) + 1)
        keys, values = self._layers[layer]
        for store, new in ((keys, keys_KTD), (values, values_KTD)):
            if not write_slots(store, slots_T, new):
                store.index_copy_(1, slots_T, new.to(store.dtype))

    def read(self, layer: int, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values [K, *slots.shape, D], copied out of the store."""
        keys, values = self._layers[layer]
        flat = slots.reshape(-1)
        return (
            keys.index_select(1, flat).unflatten(1, slots.shape),
            values.index_select(1, flat).unflatten(1, slots.shape),
        )

    def store(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return all keys and values [K, slots, D] of a layer, not copied."""
        return self._layers[layer]

    def reserve(self, num_slots: int) -> None:
        """Make room for slots 0..num_slots-1 in the layers that exist."""
        for layer, (keys, values) in self._layers.items():
            if keys.shape[1] < num_slots:
                capacity = max(num_slots, 2 * keys.shape[1])
                self._layers[layer] = (_grown(keys, capacity), _grown(values, capacity))

    def drop(self) -> None:
        """Give the memory of all layers back."""
        self._layers.clear()
        self.bytes_per_token = 0

    def _create(self, layer: int, keys: torch.Tensor, values: torch.Tensor, num_slots: int) -> None:
        capacity = max(num_slots, _FIRST_CAPACITY)
        pair = (_grown(keys[:, :0], capacity), _grown(values[:, :0], capacity))
        self._layers[layer] = pair
        self.bytes_per_token += sum(part[:, :1].nbytes for part in pair)


def _grown(part: torch.Tensor, capacity: int) -> torch.Tensor:
    # zeros, not empty: a masked key has weight 0, and 0 * NaN would be NaN
    larger = part.new_zeros((part.shape[0], capacity, part.shape[2]))
    larger[:, : part.shape[1]] = part
    return larger
