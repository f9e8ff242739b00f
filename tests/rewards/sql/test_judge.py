"""The judge on the case table under published rules, on several references, and its caches."""

from __future__ import annotations

from pathlib import Path

import pytest

from rewards.sql.judge import BadGold, Finding, Judge, Rules, Semantics
from rewards.sql.outcome import Limits
from rewards.sql.sources import NoDatabase, SqliteFiles, checked_name
from tests.rewards.sql.sql_fixture import CASES

# What the published scripts accept on the first 89 rows of the table.
BIRD_ACCEPTS = [
    "001",
    "002",
    "003",
    "004",
    "005",
    "006",
    "007",
    "008",
    "014",
    "016",
    "020",
    "024",
    "026",
    "028",
    "029",
    "030",
    "031",
    "032",
    "033",
    "034",
    "039",
    "040",
    "041",
    "046",
    "047",
    "048",
    "049",
    "050",
    "074",
    "087",
    "089",
]
SPIDER_ACCEPTS = [
    "001",
    "002",
    "003",
    "004",
    "005",
    "006",
    "009",
    "010",
    "014",
    "016",
    "020",
    "024",
    "026",
    "028",
    "029",
    "030",
    "040",
    "041",
    "046",
    "047",
    "048",
    "049",
    "071",
    "072",
    "087",
    "089",
]
# Accepted by a script because of a hole: an empty reference, no table, a write before the reference
# runs, a second statement, the clock. Refused here under every rule.
HOLES = frozenset(["041", "046", "047", "050", "071", "072", "074", "089"])


def judge(folder: Path, semantics: Semantics = "strict", num_perturbed: int = 0) -> Judge:
    rules = Rules(semantics=semantics, num_perturbed=num_perturbed, needs_partial=True)
    return Judge(SqliteFiles(str(folder), Limits(max_steps=2_000_000)), rules)


def accepted(folder: Path, semantics: Semantics) -> list[str]:
    found = []
    for case in CASES[:89]:
        try:
            label = judge(folder, semantics).judge("shop", [case["gold"]], case["pred"]).label
        except BadGold:
            label = "empty_gold"
        found += [case["id"][1:]] if label == "correct" else []
    return found


@pytest.mark.parametrize(
    ("semantics", "published"), [("bird", BIRD_ACCEPTS), ("spider", SPIDER_ACCEPTS)]
)
def test_published_rules_agree_with_the_scripts_except_for_their_holes(
    shop_folder: Path, semantics: Semantics, published: list[str]
) -> None:
    assert accepted(shop_folder, semantics) == [case for case in published if case not in HOLES]


def label(folder: Path, golds: list[str], sql: str, num_perturbed: int = 0) -> str:
    return judge(folder, num_perturbed=num_perturbed).judge("shop", golds, sql).label


def test_any_of_several_references_may_match(shop_folder: Path) -> None:
    golds = ["SELECT name FROM emp", "SELECT id, name FROM emp", "SELECT nope FROM emp"]
    assert label(shop_folder, golds, "SELECT name, id FROM emp", 2) == "correct"
    assert label(shop_folder, golds, "SELECT age FROM emp", 2) == "wrong_result"


@pytest.mark.parametrize(
    ("gold", "lucky"),
    [
        ("SELECT count(*) FROM emp", "SELECT 6 FROM emp LIMIT 1"),
        ("SELECT name FROM emp WHERE age > 28", "SELECT name FROM emp WHERE age >= 30"),
        ("SELECT name FROM emp WHERE city = 'Oslo'".replace("emp", "dept"),
         "SELECT name FROM dept WHERE city LIKE 'O%'"),
        ("SELECT max(salary) FROM emp", "SELECT salary FROM emp WHERE id = 6"),
        ("SELECT DISTINCT code FROM emp WHERE id > 3", "SELECT code FROM emp WHERE id > 3"),
    ],
)  # fmt: skip
def test_lucky_queries_match_once_and_fail_on_perturbed_copies(
    shop_folder: Path, gold: str, lucky: str
) -> None:
    assert label(shop_folder, [gold], lucky) == "correct"
    assert label(shop_folder, [gold], lucky, 5) == "wrong_result"


@pytest.mark.parametrize(
    "case", [c for c in CASES[:89] if c["verdict"] == "correct"], ids=lambda case: case["id"]
)
def test_the_reference_matches_itself_on_copies(shop_folder: Path, case: dict[str, str]) -> None:
    assert label(shop_folder, [case["gold"]], case["gold"], 5) == "correct"


def test_a_reference_is_executed_once_for_a_group(shop_folder: Path) -> None:
    source = judge(shop_folder)
    for sql in ("SELECT 1", "SELECT id FROM emp", "SELECT name FROM emp", "SELEC"):
        source.judge("shop", ["SELECT name FROM emp"], sql)
    assert source.num_gold_runs == 1


def test_many_references_do_not_keep_their_copies_open(shop_folder: Path) -> None:
    source = judge(shop_folder, num_perturbed=1)
    for age in range(150):
        sql = f"SELECT count(*) FROM emp WHERE age > {age}"
        assert source.judge("shop", [sql], sql).label == "correct"
    assert len(source._golds) <= 64


@pytest.mark.parametrize(
    ("gold", "problem"),
    [("SELECT name FROM emp WHERE 0", "empty_gold"), ("SELECT nope FROM emp", "gold:no_such_column"),
     ("DELETE FROM emp", "gold:denied"), ("SELECT random() FROM emp", "gold:nondeterministic"),
     ("", "gold:no_sql")],
)  # fmt: skip
def test_unusable_references_are_named(shop_folder: Path, gold: str, problem: str) -> None:
    assert str(judge(shop_folder).gold_problem("shop", [gold])).startswith(problem)
    with pytest.raises(BadGold):
        judge(shop_folder).judge("shop", [gold], "SELECT 1")


@pytest.mark.parametrize("name", ["", "../shop", "a/b", "/etc/passwd", "..", ".hidden", "a\x00b"])
def test_database_names_cannot_leave_the_folder(name: str) -> None:
    with pytest.raises(NoDatabase):
        checked_name(name)


def test_a_missing_or_damaged_file_is_a_bad_reference(shop_folder: Path) -> None:
    (shop_folder / "junk.sqlite").write_bytes(b"not a database" * 100)
    for name in ("missing", "junk"):
        problem = judge(shop_folder).gold_problem(name, ["SELECT 1"])
        assert problem is not None and problem.startswith("database:")


def test_a_changed_file_is_noticed(shop_folder: Path) -> None:
    import sqlite3

    source = judge(shop_folder)
    gold = ["SELECT count(*) FROM emp"]
    assert source.judge("shop", gold, "SELECT 6 FROM emp LIMIT 1").label == "correct"
    with sqlite3.connect(shop_folder / "shop.sqlite") as connection:
        connection.execute("DELETE FROM emp WHERE id = 1")
        connection.execute("CREATE TABLE filler AS SELECT * FROM emp")
    connection.close()
    assert source.judge("shop", gold, "SELECT 5 FROM emp LIMIT 1").label == "correct"


def test_partial_credit_and_schema_overlap(shop_folder: Path) -> None:
    finding = judge(shop_folder).judge(
        "shop", ["SELECT name, age FROM emp"], "SELECT name FROM emp"
    )
    assert finding == Finding(
        label="wrong_result", runs=True, partial=2 * 6 / 18, schema=2 / 3, soft=finding.soft
    )
