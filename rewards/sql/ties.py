"""Which orders of a reference result are right: groups of rows with equal sort keys.

The reference is executed once more without LIMIT and with its sort expressions as extra columns.
Where that query cannot be built (set operation or DISTINCT sorted by something that is not shown,
LIMIT that is not a literal), or its rows do not explain the reference result, each row is its own
group, which is stricter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from sqlglot import exp
from sqlglot.errors import SqlglotError

from rewards.sql.compare import Expected, Group, in_sequence, matches, unordered
from rewards.sql.outcome import Database, Outcome
from rewards.sql.tree import parse
from rewards.sql.values import KeyRow, row_keys

OrderRule = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True)
class _SortQuery:
    """The reference without LIMIT, where its sort keys stand, and which rows the LIMIT shows."""

    sql: str
    positions: tuple[int, ...]
    start: int
    stop: int | None


def expected_result(
    sql: str, outcome: Outcome, database: Database, *, dialect: str, order: OrderRule = "auto"
) -> Expected:
    """The groups of a reference result.

    Args:
        sql: The reference query.
        outcome: Its result, status OK.
        database: Where to run the query for the sort keys.
        dialect: sqlglot's name of the dialect.
        order: auto: rows are ordered when the query has ORDER BY at its top level; always; never.
    """
    rows, width = row_keys(outcome.rows), len(outcome.columns)
    root = parse(sql, dialect)
    is_ordered = root is not None and bool(root.args.get("order"))
    if order == "never" or (order == "auto" and not is_ordered):
        return unordered(rows, width)
    groups = (
        _tie_groups(root, width, database, dialect) if root is not None and is_ordered else None
    )
    if groups is not None:
        found = Expected(width, groups)
        if matches(found, rows, width, any_column_order=False):
            return found
    return in_sequence(rows, width)


def _tie_groups(
    root: exp.Expr, width: int, database: Database, dialect: str
) -> tuple[Group, ...] | None:
    try:
        query = _sort_query(root, width, dialect)
    except (SqlglotError, RecursionError, ValueError):
        return None
    outcome = database.execute(query.sql) if query else None
    if query is None or outcome is None or not outcome.is_ok:
        return None
    return _cut(row_keys(outcome.rows), width, query)


def _cut(rows: Sequence[KeyRow], width: int, query: _SortQuery) -> tuple[Group, ...]:
    stop = len(rows) if query.stop is None else min(query.stop, len(rows))
    groups, first = [], 0
    for _, tied in groupby(rows, key=lambda row: tuple(row[i] for i in query.positions)):
        members = tuple(row[:width] for row in tied)
        take = min(first + len(members), stop) - max(first, query.start)
        first += len(members)
        if take > 0:
            groups.append(Group(members, take))
    return tuple(groups)


def _sort_query(root: exp.Expr, width: int, dialect: str) -> _SortQuery | None:
    shown = _shown_rows(root)
    if shown is None:
        return None
    tree = root.copy()
    tree.set("limit", None)
    tree.set("offset", None)
    positions: list[int] = []
    extra: list[exp.Expr] = []
    for ordered in tree.args["order"].expressions:
        place = _place(ordered.this, tree)
        if place is None:
            place = width + len(extra)
            extra.append(_without_aliases(ordered.this, tree))
        positions.append(place)
    if any(place >= width + len(extra) for place in positions):
        return None
    if extra and not _show(tree, extra):
        return None
    return _SortQuery(tree.sql(dialect=dialect), tuple(positions), *shown)


def _show(tree: exp.Expr, extra: list[exp.Expr]) -> bool:
    """Adds result columns; False where that would change the rows."""
    if not isinstance(tree, exp.Select) or tree.args.get("distinct"):
        return False
    for i, expression in enumerate(extra):
        tree.select(exp.alias_(expression, f"sort_key_{i}"), copy=False)
    return True


def _shown_rows(root: exp.Expr) -> tuple[int, int | None] | None:
    """First row and end of what LIMIT and OFFSET show; None when they are not literals."""
    limit, offset = root.args.get("limit"), root.args.get("offset")
    numbers: list[int | None] = []
    for clause in (offset, limit):
        value = (
            None if clause is None else clause.args.get("expression") or clause.args.get("count")
        )
        if clause is not None and not (isinstance(value, exp.Literal) and value.this.isdigit()):
            return None
        numbers.append(None if value is None else int(value.this))
    start, count = numbers[0] or 0, numbers[1]
    return start, None if count is None else start + count


def _place(key: exp.Expr, tree: exp.Expr) -> int | None:
    """Index of the result column that a sort expression names; None when it is not shown."""
    shown = tree.selects if isinstance(tree, exp.Query) else []
    if any(column.is_star for column in shown):
        return None
    if isinstance(key, exp.Literal) and not key.is_string:
        return int(key.this) - 1
    plain = [column.unalias() for column in shown]
    names = [column.alias_or_name.lower() for column in shown]
    if isinstance(key, exp.Column) and not key.table and names.count(key.name.lower()) == 1:
        return names.index(key.name.lower())
    return plain.index(key) if key in plain else None


def _without_aliases(key: exp.Expr, tree: exp.Expr) -> exp.Expr:
    """The sort expression with names of result columns replaced by what they stand for."""
    aliases = {
        column.alias.lower(): column.unalias()
        for column in (tree.selects if isinstance(tree, exp.Query) else [])
        if column.alias
    }

    def replace(node: exp.Expr) -> exp.Expr:
        is_alias = isinstance(node, exp.Column) and not node.table and node.name.lower() in aliases
        return aliases[node.name.lower()].copy() if is_alias else node

    return key.copy().transform(replace)
