from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from itertools import permutations

import pytest

from rewards.sql.compare import Expected, matches
from rewards.sql.outcome import Limits
from rewards.sql.sqlite_database import SqliteDatabase
from rewards.sql.ties import expected_result
from rewards.sql.values import row_keys

ROWS = [(1, 5, "x"), (2, 3, "y"), (3, 5, "y"), (4, 3, "x"), (5, 4, None)]


def database(rows: Sequence[tuple[object, ...]]) -> SqliteDatabase:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE t(id INTEGER, k INTEGER, s TEXT)")
    connection.executemany("INSERT INTO t VALUES (?,?,?)", rows)
    return SqliteDatabase(connection, "t", Limits())


def groups(sql: str) -> list[tuple[list[object], int]]:
    """First column of each group in ascending order, and how many of its rows are shown."""
    return [(sorted(row[0] for row in group.rows), group.take) for group in expected(sql).groups]


def expected(sql: str, order: str = "auto") -> Expected:
    source = database(ROWS)
    return expected_result(sql, source.execute(sql), source, dialect="sqlite", order=order)  # type: ignore[arg-type]  # parametrised


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("SELECT id FROM t", [([1, 2, 3, 4, 5], 5)]),
        ("SELECT id FROM t ORDER BY k", [([2, 4], 2), ([5], 1), ([1, 3], 2)]),
        ("SELECT id FROM t ORDER BY k DESC, s", [([1], 1), ([3], 1), ([5], 1), ([4], 1), ([2], 1)]),
        ("SELECT id FROM t ORDER BY k LIMIT 1", [([2, 4], 1)]),
        ("SELECT id FROM t ORDER BY k LIMIT 4", [([2, 4], 2), ([5], 1), ([1, 3], 1)]),
        ("SELECT id FROM t ORDER BY k LIMIT 2 OFFSET 1", [([2, 4], 1), ([5], 1)]),
        ("SELECT id FROM t ORDER BY k LIMIT 1, 3", [([2, 4], 1), ([5], 1), ([1, 3], 1)]),
        ("SELECT k FROM t ORDER BY 1 LIMIT 1", [([3, 3], 1)]),
        ("SELECT k AS a, id FROM t ORDER BY a", [([3, 3], 2), ([4], 1), ([5, 5], 2)]),
        ("SELECT id, k AS a FROM t ORDER BY -a", [([1, 3], 2), ([5], 1), ([2, 4], 2)]),
        ("SELECT k, count(*) FROM t GROUP BY k ORDER BY count(*) DESC", [([3, 5], 2), ([4], 1)]),
        ("SELECT k FROM t GROUP BY k ORDER BY count(*) LIMIT 2", [([4], 1), ([3, 5], 1)]),
        ("SELECT DISTINCT k FROM t ORDER BY k", [([3], 1), ([4], 1), ([5], 1)]),
        ("SELECT id FROM t UNION SELECT k FROM t ORDER BY 1 LIMIT 2", [([1], 1), ([2], 1)]),
        ("WITH u AS (SELECT * FROM t) SELECT id FROM u ORDER BY k LIMIT 1", [([2, 4], 1)]),
        ("SELECT id FROM (SELECT id FROM t ORDER BY k)", [([1, 2, 3, 4, 5], 5)]),
        ("SELECT t.* FROM t ORDER BY t.k LIMIT 1", [([2, 4], 1)]),
    ],
)  # fmt: skip
def test_groups_of_equal_sort_keys(sql: str, found: list[tuple[list[object], int]]) -> None:
    assert groups(sql) == found


def test_a_limit_that_is_no_literal_fixes_the_sequence() -> None:
    assert all(
        take == 1 == len(rows) for rows, take in groups("SELECT id FROM t ORDER BY k LIMIT 1+1")
    )


def test_the_order_rule_can_be_set() -> None:
    assert len(expected("SELECT id FROM t", "always").groups) == 5
    assert len(expected("SELECT id FROM t ORDER BY k", "never").groups) == 1


def test_groups_accept_exactly_what_some_tie_break_would_return() -> None:
    """Against brute force: all stable results over all physical orders of the table."""
    rng = random.Random(7)
    for _ in range(25):
        rows = [(i, rng.randrange(3), None) for i in range(rng.randrange(2, 6))]
        limit, offset = rng.randrange(1, 5), rng.randrange(0, 3)
        sql = f"SELECT id FROM t ORDER BY k LIMIT {limit} OFFSET {offset}"
        source = database(rows)
        outcome = source.execute(sql)
        found = expected_result(sql, outcome, source, dialect="sqlite")
        right = {
            tuple(row[0] for row in sorted(order, key=lambda row: row[1])[offset : offset + limit])
            for order in permutations(rows)
        }
        for answer in permutations(range(len(rows)), len(outcome.rows)):
            accepted = matches(found, row_keys([(i,) for i in answer]), 1)
            assert accepted == (answer in right), (rows, sql, answer)
