"""Perturbed copies of a database, on which a query that is right by luck gives itself away.

A copy drops constraints, keeps each row with probability 0.8, repeats 15 % of the kept rows, and
shuffles 30 % of the values in 30 % of the columns. Then it gains rows at the boundaries of the
reference query: for a number c compared with a column, rows with c - 1, c and c + 1 there; for a text,
one row with it and one without. The same fingerprint, query and seed give the same copy on every
machine.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from rewards.sql.constants import Constant, Schema
from rewards.sql.outcome import Row

KEEP_PROB = 0.8
REPEAT_FRAC = 0.15
COLUMN_FRAC = 0.3
VALUE_FRAC = 0.3
MAX_TABLE_ROWS = 5_000
"""Rows of a table that copies are drawn from; the first ones of a larger table."""


@dataclass(frozen=True, slots=True)
class Table:
    """Name, (column, declared type) pairs and rows of a table."""

    name: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Dump:
    """What copies are made from: tables with rows, and the text of the views."""

    tables: tuple[Table, ...]
    views: tuple[str, ...]

    @property
    def schema(self) -> Schema:
        """Lower-case table name -> lower-case column names."""
        return {
            table.name.lower(): tuple(name.lower() for name, _ in table.columns)
            for table in self.tables
        }


def dump(connection: sqlite3.Connection) -> Dump:
    """Reads tables and views; virtual tables are left out.

    Raises:
        sqlite3.Error: The file is damaged.
    """
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    found = connection.execute(
        "SELECT type, name, coalesce(sql, '') FROM sqlite_master WHERE name NOT LIKE 'sqlite~_%' "
        "ESCAPE '~' ORDER BY rowid"
    ).fetchall()
    names = [
        name
        for kind, name, sql in found
        if kind == "table" and not sql.upper().startswith("CREATE VIRTUAL")
    ]
    views = tuple(sql for kind, _, sql in found if kind == "view")
    return Dump(tuple(_table(connection, name) for name in names), views)


def perturbed(source: Dump, constants: Sequence[Constant], seed: str) -> sqlite3.Connection:
    """A new database in memory.

    Args:
        source: Contents of the original.
        constants: Boundaries of the reference query.
        seed: Text that determines all random choices.
    """
    rng = random.Random(seed)
    connection = sqlite3.connect(
        ":memory:", isolation_level=None, cached_statements=0, check_same_thread=False
    )
    connection.execute("PRAGMA temp_store=2")
    connection.execute("BEGIN")
    for table in source.tables:
        rows = perturbed_rows(table, rng)
        rows += _boundary_rows(table, constants, rng)
        _create(connection, table, rows)
    connection.execute("COMMIT")
    for view in source.views:
        _try_to_create(connection, view)
    return connection


def perturbed_rows(table: Table, rng: random.Random) -> list[list[object]]:
    """Rows of a copy: some left out, some repeated, some values moved within their column."""
    kept = [list(row) for row in table.rows if rng.random() < KEEP_PROB]
    if not kept and table.rows:
        kept = [list(table.rows[rng.randrange(len(table.rows))])]
    kept += [list(kept[rng.randrange(len(kept))]) for _ in range(int(REPEAT_FRAC * len(kept)))]
    for column in range(len(table.columns)):
        if rng.random() < COLUMN_FRAC:
            _shuffle_some(kept, column, rng)
    return kept


def _table(connection: sqlite3.Connection, name: str) -> Table:
    columns = tuple(
        (column, kind)
        for _, column, kind, *_ in connection.execute(f"PRAGMA table_xinfo({_quoted(name)})")
    )
    shown = ", ".join(_quoted(column) for column, _ in columns)
    rows = connection.execute(f"SELECT {shown} FROM {_quoted(name)} LIMIT {MAX_TABLE_ROWS}")
    return Table(name, columns, tuple(rows))


def _shuffle_some(rows: list[list[object]], column: int, rng: random.Random) -> None:
    chosen = [row for row in rows if rng.random() < VALUE_FRAC]
    values = [row[column] for row in chosen]
    rng.shuffle(values)
    for row, value in zip(chosen, values, strict=True):
        row[column] = value


def _boundary_rows(
    table: Table, constants: Sequence[Constant], rng: random.Random
) -> list[list[object]]:
    names = [name.lower() for name, _ in table.columns]
    rows = []
    for constant in constants:
        if constant.table == table.name.lower() and table.rows:
            for value in _neighbours(constant.value):
                row: list[object] = list(table.rows[rng.randrange(len(table.rows))])
                row[names.index(constant.column)] = value
                rows.append(row)
    return rows


def _neighbours(value: str | int | float) -> list[object]:
    if isinstance(value, str):
        return [value, f"{value}~"]
    return [value - 1, value, value + 1]


def _create(connection: sqlite3.Connection, table: Table, rows: list[list[object]]) -> None:
    columns = ", ".join(f"{_quoted(name)} {_affinity(kind)}" for name, kind in table.columns)
    connection.execute(f"CREATE TABLE {_quoted(table.name)} ({columns})")
    places = ", ".join("?" for _ in table.columns)
    connection.executemany(f"INSERT INTO {_quoted(table.name)} VALUES ({places})", rows)


def _affinity(kind: str) -> str:
    """The declared type, quoted, so that any text in it stays a type."""
    return _quoted(kind) if kind else ""


def _try_to_create(connection: sqlite3.Connection, view: str) -> None:
    try:
        connection.execute(view)
    except sqlite3.Error:  # a reference that needs this view fails on the copy, which is replaced
        return


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
