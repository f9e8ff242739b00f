"""When two cells are equal: numbers up to noise, text exactly, and never text with a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from rewards.sql.outcome import Row

Key = Any  # None, int, float, str, bytes or _NAN: hashable, equal exactly when the cells are equal
KeyRow = tuple[Key, ...]

RELATIVE_TOLERANCE = 1e-9
_NAN = ("nan",)


def value_key(value: Any) -> Key:  # a cell of any database type
    """A hashable stand-in for a cell; equal cells have equal keys.

    Whole numbers are exact in any type (1 = 1.0 = True), other numbers are rounded to 9 significant
    digits, NaN equals itself, -0 equals 0; text and bytes are compared as they are.

    Example:
        `value_key(0.1 + 0.2) == value_key(Decimal("0.3"))`, `value_key("7") != value_key(7)`.
    """
    if value is None or type(value) in (str, int, bytes):
        return value
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, Decimal) and value.is_finite() and value == int(value):
        return int(value)
    if isinstance(value, float | Decimal):
        return _float_key(float(value))
    return value


def row_keys(rows: Sequence[Row]) -> list[KeyRow]:
    """Keys of all cells."""
    return [tuple(map(value_key, row)) for row in rows]


def has_fraction(rows: Sequence[KeyRow]) -> bool:
    """True when some number is not whole, so that rounding may have split equal cells."""
    return any(type(key) is float for row in rows for key in row)


def is_close_row(left: KeyRow, right: KeyRow) -> bool:
    """Equal cell by cell, numbers within a relative distance of 1e-9."""
    return all(map(_is_close, left, right))


def sort_key(row: KeyRow) -> tuple[tuple[int, Any], ...]:  # cells of mixed types
    """Orders rows of mixed types: null, numbers, NaN, text, bytes."""
    return tuple(_rank(key) for key in row)


def _float_key(value: float) -> Key:
    if math.isnan(value):
        return _NAN
    if math.isinf(value):
        return value
    rounded = value if value.is_integer() else float(f"{value:.9g}")
    return int(rounded) if rounded.is_integer() else rounded


def _is_close(left: Key, right: Key) -> bool:
    if left == right:
        return True
    if float not in (type(left), type(right)):
        return False
    is_number = isinstance(left, int | float) and isinstance(right, int | float)
    return is_number and math.isclose(left, right, rel_tol=RELATIVE_TOLERANCE)


def _rank(key: Key) -> tuple[int, Any]:  # the value of a cell
    if key is None:
        return 0, 0
    if isinstance(key, int | float):
        return 1, key
    return (2, key) if key == _NAN else (3, key) if isinstance(key, str) else (4, key)
