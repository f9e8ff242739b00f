"""Constants that a query compares with columns: the places where near-miss queries differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlglot import exp

from rewards.sql.tree import alias_names, parse

Schema = Mapping[str, tuple[str, ...]]
"""Lower-case table name -> lower-case column names."""

_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Like, exp.ILike, exp.Is)
_MAX_INTEGER = 2**62
MAX_CONSTANTS = 32
"""Constants of one query that are used; more make the copies large without telling more apart."""


@dataclass(frozen=True, slots=True)
class Constant:
    """`table.column` is compared with `value`."""

    table: str
    column: str
    value: str | int | float


def compared_constants(sql: str, dialect: str, schema: Schema) -> list[Constant]:
    """The constants in the order of the text, without repeats; empty when the text is unreadable."""
    root = parse(sql, dialect)
    if root is None:
        return []
    aliases = alias_names(root)
    found: dict[Constant, None] = {}
    for column, literal in _pairs(root):
        value = _value(literal)
        tables = [aliases.get(column.table.lower(), "")] if column.table else aliases.values()
        for table in tables:
            name = column.name.lower()
            if value is not None and name in schema.get(table, ()):
                found[Constant(table, name, value)] = None
    return list(found)[:MAX_CONSTANTS]


def _pairs(root: exp.Expr) -> Iterator[tuple[exp.Column, exp.Expr]]:
    for node in root.find_all(*_COMPARISONS):
        yield from _column_first(node.this, node.expression)
    for between in root.find_all(exp.Between):
        yield from _column_first(between.this, between.args["low"])
        yield from _column_first(between.this, between.args["high"])
    for choice in root.find_all(exp.In):
        for item in choice.expressions:
            yield from _column_first(choice.this, item)


def _column_first(left: exp.Expr, right: exp.Expr) -> Iterator[tuple[exp.Column, exp.Expr]]:
    if isinstance(left, exp.Column):
        yield left, right
    elif isinstance(right, exp.Column):
        yield right, left


def _value(node: exp.Expr) -> str | int | float | None:
    """The value of a literal; a quoted identifier is one, too, since SQLite may read it as text."""
    if isinstance(node, exp.Neg):
        inner = _value(node.this)
        return -inner if isinstance(inner, int | float) else None
    if isinstance(node, exp.Column) and node.this.args.get("quoted") and not node.table:
        return node.name.strip("%")
    if not isinstance(node, exp.Literal):
        return None
    if node.is_string:
        return str(node.this).strip("%")
    return _number(str(node.this))


def _number(text: str) -> int | float | None:
    """The number that a database would store, None beyond 64-bit integers."""
    try:
        value = float(text)
        return value if not text.isdigit() else int(text) if value < _MAX_INTEGER else None
    except ValueError:
        return None
