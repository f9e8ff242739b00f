from __future__ import annotations

import hashlib
import random
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.sql.outcome import EXEC_ERRORS, LIMITS, Limits, Status
from rewards.sql.sqlite_database import SqliteDatabase, open_file
from tests.rewards.sql.sql_fixture import CASES, make_database

RECURSION = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM t) "
DENIED = [
    "DELETE FROM emp", "/* SELECT */ DELETE FROM emp", "-- SELECT\nDROP TABLE emp",
    "REPLACE INTO audit VALUES (1, 'x')", "CREATE INDEX i ON emp(name)",
    "CREATE VIRTUAL TABLE v USING fts5(x)", "WITH d AS (SELECT 1) INSERT INTO audit SELECT 1, 'x'",
    "WITH d AS (SELECT 1) UPDATE emp SET age = 0", "ATTACH 'x.db' AS x", "ATTACH ':memory:' AS x",
    "VACUUM", "VACUUM INTO 'x.db'", "PRAGMA writable_schema=ON", "PRAGMA temp_store_directory='/tmp'",
    "PRAGMA journal_mode=DELETE", "SELECT * FROM pragma_table_info('emp')",
    "SELECT * FROM pragma_database_list", "BEGIN IMMEDIATE", "COMMIT", "ROLLBACK", "RELEASE a",
    "SELECT load_extension('libc.so.6')", "SELECT load_extension('x', 'y')",
    "SELECT fts3_tokenizer('simple')", "SELECT hex(zeroblob(900000000))",
    "SELECT randomblob(10)", "SELECT printf('%900000000d', 1)", "SELECT format('%s', 1)",
    "UPDATE sqlite_master SET sql = ''", "DELETE FROM emp RETURNING name",
]  # fmt: skip
UNSTABLE = [
    "SELECT random()", "SELECT abs(random() % 2) FROM emp", "SELECT CURRENT_TIMESTAMP",
    "SELECT current_date", "SELECT date()", "SELECT datetime('NOW')", "SELECT strftime('%Y')",
    "SELECT strftime('%Y', \"now\")", "SELECT julianday(' now ')", "SELECT date(lower('NO' || 'W'))",
    "SELECT datetime(1, 'unixepoch', 'localtime')", "SELECT datetime('2020-01-01', 'utc')",
    "SELECT time('n' || 'ow') FROM emp", "WITH t(x) AS (SELECT 'now') SELECT date(x) FROM t",
    "SELECT sqlite_version()", "SELECT total_changes()", "SELECT last_insert_rowid() FROM emp",
]  # fmt: skip
STABLE = [
    "SELECT date('2020-01-01', '+1 day')", "SELECT strftime('%Y', code) FROM emp",
    "SELECT datetime(salary, 'unixepoch') FROM emp", "SELECT date(substr(code, 1, 4) || '-01-01') FROM emp",
    "SELECT note FROM emp WHERE note = 'now'", "SELECT name FROM emp -- now", "SELECT date(max(code)) FROM emp",
]  # fmt: skip
BOUNDED = [
    RECURSION + "SELECT count(*) FROM t", RECURSION + "SELECT n FROM t",
    RECURSION + "SELECT n FROM t ORDER BY n DESC LIMIT 1",
    "SELECT count(*) FROM emp a, emp b, emp c, emp d, emp e, emp f, emp g, emp h, emp i, emp j, emp k",
    "SELECT " + "hex(" * 20 + "name" + ")" * 20 + " FROM emp",
    "WITH RECURSIVE t(x) AS (SELECT 'a' UNION ALL SELECT x||x FROM t) SELECT length(x) FROM t",
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM t LIMIT 2000000) "
    "SELECT group_concat(n) FROM t",
    "SELECT replace(replace(replace(hex('aaaaaaaaaa'),'6','" + "1" * 1000 + "'),'1','" + "2" * 1000
    + "'),'2','" + "3" * 1000 + "')",
    "SELECT " + "+".join(["1"] * 5000), "SELECT " + ",".join(["1"] * 2001),
    " UNION ALL ".join(["SELECT 1"] * 600), "SELECT " + "(" * 2000 + "1" + ")" * 2000,
    "SELECT 1 FROM " + ",".join(["emp"] * 70), "SELECT max(" + ",".join(["1"] * 200) + ")",
    "SELECT 'a' LIKE '" + "%a" * 5000 + "'", "SELECT '" + "x" * 30_000 + "'",
]  # fmt: skip


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("sql", DENIED)
def test_everything_but_reading_is_denied(shop: SqliteDatabase, sql: str) -> None:
    assert shop.execute(sql).status is Status.DENIED


@pytest.mark.parametrize("sql", UNSTABLE)
def test_queries_that_depend_on_time_or_chance_are_refused(shop: SqliteDatabase, sql: str) -> None:
    assert shop.execute(sql).status is Status.NONDETERMINISTIC


@pytest.mark.parametrize("sql", STABLE)
def test_date_arithmetic_on_data_is_allowed(shop: SqliteDatabase, sql: str) -> None:
    assert shop.execute(sql).status is Status.OK


@pytest.mark.parametrize("sql", BOUNDED)
def test_expensive_queries_end_soon_with_a_limit(shop: SqliteDatabase, sql: str) -> None:
    start = time.perf_counter()
    outcome = shop.execute(sql)
    assert outcome.status in LIMITS - {Status.TIMEOUT}, outcome
    assert time.perf_counter() - start < 3.0


@pytest.mark.parametrize(
    ("sql", "status"),
    [
        ("", Status.NO_SQL), (" ;\n; ", Status.NO_SQL), ("/* open", Status.NO_SQL),
        ("SELECT 1; SELECT 2", Status.MULTIPLE_STATEMENTS),
        ("SELECT 1 /* ; */ -- ;\n ; ", Status.OK), ("SELECT ';'", Status.OK),
        ("SELECT 1;;DROP TABLE emp", Status.MULTIPLE_STATEMENTS),
        ("EXPLAIN QUERY PLAN SELECT 1", Status.NOT_A_QUERY), ("/**/ explain SELECT 1", Status.NOT_A_QUERY),
        ("SELECT ?", Status.SYNTAX_ERROR), ("SELECT :name", Status.SYNTAX_ERROR),
        ("SELECT 'a\x00b'", Status.SYNTAX_ERROR), ("SELECT '\ud800'", Status.SYNTAX_ERROR),
        ("SELECT (", Status.SYNTAX_ERROR), ("SELECT upper()", Status.TYPE_ERROR),
        ("SELECT * FROM nope", Status.NO_SUCH_TABLE), ("SELECT nope FROM emp", Status.NO_SUCH_COLUMN),
        ("SELECT nope(1)", Status.NO_SUCH_FUNCTION), ("SELECT id FROM emp, dept", Status.AMBIGUOUS_COLUMN),
        ("SELECT sum(count(*)) FROM emp", Status.OTHER_ERROR),
    ],
)  # fmt: skip
def test_statuses(shop: SqliteDatabase, sql: str, status: Status) -> None:
    assert shop.execute(sql).status is status


def test_nothing_is_written_by_any_case_or_attack(
    shop_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop_folder)
    before = contents(shop_folder)
    database = SqliteDatabase.from_file(shop_folder / "shop.sqlite", Limits(max_steps=200_000))
    for sql in [*DENIED, *UNSTABLE, *BOUNDED, *(case["pred"] for case in CASES)]:
        database.execute(sql)
    assert contents(shop_folder) == before


def test_the_connection_works_after_every_attack_and_keeps_its_limits(shop: SqliteDatabase) -> None:
    endless = RECURSION + "SELECT count(*) FROM t"
    for sql in [*DENIED, *BOUNDED]:
        shop.execute(sql)
        assert shop.execute("SELECT count(*) FROM emp").rows == ((6,),)
    assert shop.execute(endless).status is Status.STEP_LIMIT


def test_a_read_only_connection_cannot_write_even_without_the_guard(shop_folder: Path) -> None:
    connection = open_file(shop_folder / "shop.sqlite")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM emp")
    connection.close()


def test_steps_are_the_same_in_every_run(shop_folder: Path) -> None:
    sql = "SELECT count(*) FROM emp a, emp b, emp c, emp d, emp e, emp f, emp g"
    databases = [SqliteDatabase.from_file(shop_folder / "shop.sqlite") for _ in range(3)]
    steps = {database.execute(sql).steps for database in databases for _ in range(3)}
    assert len(steps) == 1 and steps.pop() > 500_000


def test_the_budget_decides_at_the_same_step_everywhere(shop_folder: Path) -> None:
    sql = RECURSION + "SELECT count(*) FROM t"
    for budget in (10_000, 50_000):
        limits = Limits(max_steps=budget)
        database = SqliteDatabase.from_file(shop_folder / "shop.sqlite", limits)
        outcome = database.execute(sql)
        assert (outcome.status, outcome.steps) == (Status.STEP_LIMIT, budget)


def test_rows_and_bytes_of_a_result_are_bounded(shop_folder: Path) -> None:
    limits = Limits(max_rows=10, max_result_bytes=100)
    database = SqliteDatabase.from_file(shop_folder / "shop.sqlite", limits)
    eleven = RECURSION + "SELECT n FROM t LIMIT 11"
    assert database.execute(RECURSION + "SELECT n FROM t LIMIT 10").status is Status.OK
    assert database.execute(eleven).status is Status.ROW_LIMIT
    assert database.execute("SELECT hex(hex(hex('0123456789'))), 'abc'").status is Status.OK
    assert database.execute("SELECT hex(hex(hex('0123456789abc')))").status is Status.SIZE_LIMIT


def test_the_wall_clock_is_a_backstop(shop_folder: Path) -> None:
    limits = Limits(max_steps=10**12, timeout_s=0.1)
    database = SqliteDatabase.from_file(shop_folder / "shop.sqlite", limits)
    assert database.execute(RECURSION + "SELECT count(*) FROM t").status is Status.TIMEOUT


def test_tables_and_columns_that_are_read_are_reported(shop: SqliteDatabase) -> None:
    assert shop.execute("SELECT NAME FROM EMP").reads == {("emp", "name")}
    assert shop.execute("SELECT count(*) FROM emp").tables == {"emp"}
    assert shop.execute("SELECT 1").tables == set()
    assert shop.execute("SELECT name FROM sqlite_master").tables == set()
    assert shop.execute("SELECT value FROM json_each('[1,2]')").tables == set()


def test_broken_text_in_the_file_is_replaced(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "bad.sqlite") as connection:
        connection.execute("CREATE TABLE t(x TEXT)")
        connection.execute("INSERT INTO t VALUES (CAST(x'ff41' AS TEXT))")
    connection.close()
    outcome = SqliteDatabase.from_file(tmp_path / "bad.sqlite").execute("SELECT x FROM t")
    assert outcome.rows == (("\ufffdA",),)


def test_messages_hold_no_paths_and_are_short(shop: SqliteDatabase) -> None:
    outcome = shop.execute(f"SELECT [{'/home/user/secret/' * 50}] FROM emp")
    assert outcome.status in EXEC_ERRORS and len(outcome.error_text) <= 200
    assert "secret" not in outcome.error_text


def test_64_threads_with_a_database_each_agree(tmp_path: Path) -> None:
    path = make_database(tmp_path / "shop.sqlite")
    barrier = threading.Barrier(64)

    def ask(_: int) -> object:
        database = SqliteDatabase.from_file(path)
        barrier.wait(timeout=60)
        return database.execute("SELECT count(*) FROM emp a, emp b, emp c, emp d").rows

    with ThreadPoolExecutor(64) as threads:
        assert set(threads.map(ask, range(64))) == {((1296,),)}


WORDS = """SELECT FROM WHERE emp dept name age id count(*) ( ) , ; ' " -- /* */ UNION ALL JOIN ON = < > 1
'x' NULL ORDER BY LIMIT GROUP HAVING DISTINCT WITH RECURSIVE t(n) AS VALUES CASE WHEN THEN END DELETE
PRAGMA ATTACH random() date('now') [ ] ` ? :a @b $c x'00' 1e999 -9223372036854775808
replace(name,'a','bb') json_each('[1]') EXISTS IN || -> OVER"""
FRAGMENTS = st.sampled_from([*WORDS.split(), "\x00", "\ud800", "\U0001f600"])


@given(st.one_of(st.lists(FRAGMENTS, max_size=25).map(" ".join), st.text(max_size=80)))
@settings(max_examples=300, deadline=None)
def test_no_text_raises_and_every_text_repeats_itself(sql: str) -> None:
    database = FUZZED
    first, second = database.execute(sql), database.execute(sql)
    assert (first.status, first.rows, first.steps) == (second.status, second.rows, second.steps)
    assert first.status not in (Status.TIMEOUT, Status.CRASHED)


def _in_memory() -> SqliteDatabase:
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.execute("CREATE TABLE emp(id INTEGER, name TEXT, age INTEGER)")
    connection.execute("CREATE TABLE dept(id INTEGER, name TEXT)")
    rng = random.Random(0)
    rows = [(i, rng.choice("ab"), rng.randrange(9)) for i in range(20)]
    connection.executemany("INSERT INTO emp VALUES (?,?,?)", rows)
    return SqliteDatabase(connection, "fuzz", Limits(max_steps=300_000, max_rows=2_000))


FUZZED = _in_memory()
