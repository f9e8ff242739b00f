from __future__ import annotations

import sqlite3
from pathlib import Path

from rewards.sql.constants import Constant, compared_constants
from rewards.sql.instances import Dump, Table, dump, perturbed
from rewards.sql.sqlite_database import open_file

SCHEMA = {"emp": ("id", "name", "age"), "dept": ("id", "name")}


def constants(sql: str) -> set[tuple[str, str, object]]:
    return {(c.table, c.column, c.value) for c in compared_constants(sql, "sqlite", SCHEMA)}


def rows(connection: sqlite3.Connection, table: str) -> list[tuple[object, ...]]:
    return connection.execute(f"SELECT * FROM {table}").fetchall()


def test_constants_are_found_in_every_kind_of_comparison() -> None:
    found = constants(
        "SELECT 1 FROM emp e JOIN dept ON e.id = dept.id WHERE e.age > 28 AND 3 < e.age AND "
        "e.name LIKE '%nn%' AND e.age BETWEEN 2 AND -4 AND dept.name IN ('HR', \"IT\") AND e.id = 1.5"
    )
    assert found == {
        ("emp", "age", 28), ("emp", "age", 3), ("emp", "name", "nn"), ("emp", "age", 2),
        ("emp", "age", -4), ("dept", "name", "HR"), ("dept", "name", "IT"), ("emp", "id", 1.5),
    }  # fmt: skip


def test_unqualified_columns_belong_to_every_table_of_the_query_that_has_them() -> None:
    assert constants("SELECT 1 FROM emp, dept WHERE name = 'x'") == {
        ("emp", "name", "x"), ("dept", "name", "x")
    }  # fmt: skip


def test_unreadable_text_and_huge_numbers_give_no_constants() -> None:
    assert constants("SELEC (") == set()
    assert constants("SELECT 1 FROM emp WHERE age > 99999999999999999999999") == set()


def test_a_copy_is_the_same_for_the_same_seed_and_differs_otherwise(shop_folder: Path) -> None:
    source = dump(open_file(shop_folder / "shop.sqlite"))
    boundary = [Constant("emp", "age", 28)]
    first, again, other = (
        rows(perturbed(source, boundary, seed), "emp") for seed in ("1", "1", "2")
    )
    assert first == again != other


def test_the_choices_do_not_change_between_versions() -> None:
    source = Dump((Table("t", (("x", "INTEGER"),), tuple((i,) for i in range(12))),), ())
    assert [row[0] for row in rows(perturbed(source, [], "seed"), "t")] == GOLDEN


def test_boundary_rows_surround_numbers_and_split_texts(shop_folder: Path) -> None:
    source = dump(open_file(shop_folder / "shop.sqlite"))
    boundary = [Constant("emp", "age", 28), Constant("dept", "city", "Rome")]
    copy = perturbed(source, boundary, "1")
    assert {row[0] for row in copy.execute("SELECT age FROM emp")} >= {27, 28, 29}
    assert {row[0] for row in copy.execute("SELECT city FROM dept")} >= {"Rome", "Rome~"}


def test_copies_keep_types_views_and_odd_names_and_drop_constraints(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "odd.sqlite") as connection:
        connection.execute(
            'CREATE TABLE "a ""b" (x VARCHAR(9) UNIQUE NOT NULL, "select" REAL CHECK (x > 0))'
        )
        connection.executemany(
            'INSERT INTO "a ""b" VALUES (?, ?)', [(str(i), i) for i in range(1, 9)]
        )
        connection.execute('CREATE VIEW v AS SELECT x FROM "a ""b"')
    connection.close()
    source = dump(open_file(tmp_path / "odd.sqlite"))
    copy = perturbed(source, [Constant('a "b', "select", 3)], "1")
    kinds = set(copy.execute('SELECT typeof(x), typeof("select") FROM "a ""b"'))
    assert kinds == {("text", "real")}
    assert copy.execute("SELECT count(*) FROM v").fetchone()[0] > 0


def test_a_table_without_rows_stays_empty_and_others_never_become_empty() -> None:
    one = Table("one", (("x", "INTEGER"),), ((1,),))
    none = Table("none", (("x", "INTEGER"),), ())
    for seed in range(40):
        copy = perturbed(Dump((one, none), ()), [Constant("none", "x", 1)], str(seed))
        assert rows(copy, "none") == [] and set(rows(copy, "one")) == {(1,)}


GOLDEN = [0, 1, 3, 4, 6, 7, 8, 9, 10, 11, 1]
