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

_FIRST_CAPACITY = 1024


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
    """Free list of slots with an optional hard limit."""

    def __init__(self, max_tokens: int | None = None) -> None:
        self.max_tokens = max_tokens
        self.num_used = 0
        self._num_created = 0
        self._free: list[int] = []

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

    def take(self, count: int) -> list[int]:
        """Take `count` slots.

        Raises:
            KVBudgetError: Fewer are free.
        """
        if not self.fits(count):
            assert self.max_tokens is not None
            raise KVBudgetError(
                needed=count, free=self.max_tokens - self.num_used, budget=self.max_tokens
            )
        self.num_used += count
        fresh = count - len(self._free)
        if fresh <= 0:
            taken = self._free[-count:] if count else []
            del self._free[len(self._free) - count :]
            return taken
        taken, self._free = self._free, []
        taken.extend(range(self._num_created, self._num_created + fresh))
        self._num_created += fresh
        return taken

    def give(self, slots: Sequence[int]) -> None:
        """Give slots back."""
        self._free.extend(slots)
        self.num_used -= len(slots)
        assert self.num_used >= 0, "more slots were given back than taken"

    def reset(self) -> None:
        """Start over with slot 0; all slots must have been given back."""
        assert self.num_used == 0, f"{self.num_used} slots are still in use"
        self._free, self._num_created = [], 0

    def free_slots(self) -> frozenset[int]:
        """Return the slots below `num_created` that nobody owns."""
        return frozenset(self._free)


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
        keys.index_copy_(1, slots_T, keys_KTD.to(keys.dtype))
        values.index_copy_(1, slots_T, values_KTD.to(values.dtype))

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
