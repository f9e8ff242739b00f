"""Does a result equal the reference's? Bags of rows, free column order, groups of tied rows.

A reference result is a sequence of groups. Rows inside a group may come in any order; of a group that
a LIMIT cuts, any `take` rows are right.

    no ORDER BY            one group with all rows
    ORDER BY age           [Eva] [Ann Cid] [Ann] ...      rows with equal sort keys share a group
    ... LIMIT 2            [Eva] [Ann Cid: take 1]

Column order is found by backtracking: a predicted column is a candidate for a reference column when
its values are contained in it, and every prefix of an assignment is checked on the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rewards.sql.values import KeyRow, has_fraction, is_close_row, sort_key

MAX_ASSIGNMENTS = 5_000
"""Assignments of columns that are looked at before a result counts as different."""
MAX_ROW_VISITS = 2_000_000
"""Bound of the whole search, in rows; ends comparisons of wide results with many equal columns."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows in any order, of which `take` are part of the result."""

    rows: tuple[KeyRow, ...]
    take: int


@dataclass(frozen=True, slots=True)
class Expected:
    """A reference result: number of columns, and groups in sequence."""

    width: int
    groups: tuple[Group, ...]

    @property
    def num_rows(self) -> int:
        """Rows that a right result has."""
        return sum(group.take for group in self.groups)


def unordered(rows: Sequence[KeyRow], width: int) -> Expected:
    """Any order is right."""
    return Expected(width, (Group(tuple(rows), len(rows)),) if rows else ())


def in_sequence(rows: Sequence[KeyRow], width: int) -> Expected:
    """Only this order is right."""
    return Expected(width, tuple(Group((row,), 1) for row in rows))


def matches(
    expected: Expected,
    rows: Sequence[KeyRow],
    width: int,
    *,
    any_column_order: bool = True,
    forgives_noise: bool = True,
) -> bool:
    """True when the rows are a right result.

    Args:
        expected: The reference.
        rows: Keys of the predicted rows.
        width: Columns of the prediction, which matters when there are no rows.
        any_column_order: Whether columns may be permuted.
        forgives_noise: Whether numbers may differ by a relative 1e-9 when the keys do not match.
    """
    if width != expected.width or len(rows) != expected.num_rows:
        return False
    if _matches_with(expected, rows, any_column_order, _contains):
        return True
    is_whole = all(group.take == len(group.rows) for group in expected.groups)
    if not forgives_noise or not is_whole:
        return False
    is_fractional = has_fraction(rows) or any(has_fraction(g.rows) for g in expected.groups)
    return is_fractional and _matches_with(expected, rows, any_column_order, _is_near)


Rule = Callable[[Sequence[KeyRow], Sequence[KeyRow]], bool]
"""(rows of a group, predicted rows) -> whether the latter may be taken from the former."""


def _matches_with(
    expected: Expected, rows: Sequence[KeyRow], any_column_order: bool, rule: Rule
) -> bool:
    search = _Search(expected, rows, rule)
    if search.accepts(tuple(range(expected.width))):
        return True
    return any_column_order and search.extend(())


def _contains(pool: Sequence[KeyRow], taken: Sequence[KeyRow]) -> bool:
    if len(pool) == 1:
        return pool[0] == taken[0]
    return Counter(taken) <= Counter(pool)


def _is_near(pool: Sequence[KeyRow], taken: Sequence[KeyRow]) -> bool:
    pairs = zip(sorted(pool, key=sort_key), sorted(taken, key=sort_key), strict=True)
    return all(is_close_row(left, right) for left, right in pairs)


@dataclass(slots=True)
class _Search:
    """Backtracking over assignments: position = column of the reference, entry = predicted column."""

    expected: Expected
    rows: Sequence[KeyRow]
    rule: Rule
    num_assignments: int = 0
    num_visits: int = 0
    candidates: list[list[int]] = field(default_factory=list)

    def accepts(self, assignment: tuple[int, ...]) -> bool:
        """Whether the assigned columns agree with the first columns of the reference, row by row."""
        self.num_assignments += 1
        start, num_columns = 0, len(assignment)
        for group in self.expected.groups:
            taken = self.rows[start : start + group.take]
            start += group.take
            self.num_visits += len(group.rows) + len(taken)
            projected = [tuple(row[i] for i in assignment) for row in taken]
            if not self.rule([row[:num_columns] for row in group.rows], projected):
                return False
        return True

    def extend(self, assignment: tuple[int, ...]) -> bool:
        """Whether some completion of the assignment, which is accepted, makes the results equal."""
        if len(assignment) == self.expected.width:
            return True
        if not assignment:
            self.candidates = self._candidates()
        for column in self.candidates[len(assignment)]:
            if column in assignment:
                continue
            if self.num_assignments > MAX_ASSIGNMENTS or self.num_visits > MAX_ROW_VISITS:
                return False
            longer = (*assignment, column)
            if self.accepts(longer) and self.extend(longer):
                return True
        return False

    def _candidates(self) -> list[list[int]]:
        columns = [[(row[i],) for row in self.rows] for i in range(self.expected.width)]
        every = [row for group in self.expected.groups for row in group.rows]
        pools = [[(row[i],) for row in every] for i in range(self.expected.width)]
        if len(every) != len(self.rows):  # a group is cut: its other rows are possible, too
            return [
                [i for i, column in enumerate(columns) if Counter(column) <= Counter(pool)]
                for pool in pools
            ]
        return [
            [i for i, column in enumerate(columns) if self.rule(pool, column)] for pool in pools
        ]
