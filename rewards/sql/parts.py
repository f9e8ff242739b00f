"""Partial credit: how much of the result and of the schema a wrong query got right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Sequence

from rewards.sql.values import KeyRow

MAX_EXTRA_COLUMNS = 2
"""A prediction with more columns than the reference plus this earns no partial credit."""
MAX_WORK = 2_000_000
"""Pairs of columns times rows; larger results earn no partial credit, to bound the time."""


def set_f1(gold: Collection[Hashable], predicted: Collection[Hashable]) -> float:
    """F1 of two sets; two empty sets are equal.

    Example:
        `set_f1({1, 2}, {2, 3})` is 0.5.
    """
    if not gold and not predicted:
        return 1.0
    return 2 * len(set(gold) & set(predicted)) / (len(set(gold)) + len(set(predicted)))


def cell_f1(gold: Sequence[KeyRow], predicted: Sequence[KeyRow], widths: tuple[int, int]) -> float:
    """F1 over cells, where each cell can be matched once.

    Columns are paired one to one, best overlap first, as long as a further pair increases the number
    of cells in equal rows; rows are then compared as bags. So repeating a right value earns nothing.

    Args:
        gold: Keys of the reference rows.
        predicted: Keys of the predicted rows.
        widths: Columns of the reference and of the prediction.

    Example:
        gold `[(1, "a"), (2, "b")]`: the predictions `[(1, "a")]` and `[(1,), (2,)]` earn 2/3,
        `[("a", 1), ("b", 2)]` earns 1.
    """
    work = widths[0] * widths[1] * (len(gold) + len(predicted))
    if widths[1] > widths[0] + MAX_EXTRA_COLUMNS or work > MAX_WORK:
        return 0.0
    num_cells = widths[0] * len(gold) + widths[1] * len(predicted)
    if not gold or not predicted:
        return 1.0 if not num_cells and widths[0] == widths[1] else 0.0
    return 2 * _matched_cells(gold, predicted, widths) / num_cells


def _matched_cells(
    gold: Sequence[KeyRow], predicted: Sequence[KeyRow], widths: tuple[int, int]
) -> int:
    best, chosen = 0, list[tuple[int, int]]()
    for pair in _ranked_pairs(gold, predicted, widths):
        if any(pair[0] == i or pair[1] == j for i, j in chosen):
            continue
        cells = _common_rows(gold, predicted, [*chosen, pair]) * (len(chosen) + 1)
        if cells > best:
            best, chosen = cells, [*chosen, pair]
    return best


def _ranked_pairs(
    gold: Sequence[KeyRow], predicted: Sequence[KeyRow], widths: tuple[int, int]
) -> list[tuple[int, int]]:
    """Pairs of columns with common values, largest overlap first."""
    left = [Counter(row[i] for row in gold) for i in range(widths[0])]
    right = [Counter(row[j] for row in predicted) for j in range(widths[1])]
    overlaps = {
        (i, j): (left[i] & right[j]).total() for i in range(widths[0]) for j in range(widths[1])
    }
    found = [pair for pair, overlap in overlaps.items() if overlap]
    return sorted(found, key=lambda pair: (-overlaps[pair], pair))


def _common_rows(
    gold: Sequence[KeyRow], predicted: Sequence[KeyRow], pairs: Sequence[tuple[int, int]]
) -> int:
    left = Counter(tuple(row[i] for i, _ in pairs) for row in gold)
    right = Counter(tuple(row[j] for _, j in pairs) for row in predicted)
    return (left & right).total()
