"""SlotTable: the KV slots of each running path, position by position, as one array."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class SlotTable:
    """Rows of slots, one per running request, kept from step to step.

    Reading a path out of its nodes costs a walk; a decoding step only adds one slot per row.
    """

    def __init__(self) -> None:
        self.slots: NDArray[np.int64] = np.zeros((0, 64), dtype=np.int64)
        """[rows, width]; entry (r, p) is the slot of position p. Beyond the path: any valid slot."""
        self._free: list[int] = []

    def take(self) -> int:
        """Return a free row."""
        if not self._free:
            rows, width = self.slots.shape
            more = max(8, rows)
            self.slots = np.concatenate([self.slots, np.zeros((more, width), dtype=np.int64)])
            self._free = list(range(rows + more - 1, rows - 1, -1))
        return self._free.pop()

    def give(self, row: int) -> None:
        """Give a row back."""
        self._free.append(row)

    def widen(self, width: int) -> None:
        """Make room for `width` positions per row."""
        rows, have = self.slots.shape
        if width > have:
            more = np.zeros((rows, max(width, 2 * have) - have), dtype=np.int64)
            self.slots = np.concatenate([self.slots, more], axis=1)
