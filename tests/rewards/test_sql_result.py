from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.base import Sample, Score, Verdict
from rewards.batch import score_batch
from rewards.pool import PoolConfig, WorkerPool
from rewards.sql.outcome import EXEC_ERRORS, LIMITS
from rewards.sql_result import SqlResult, SqlResultConfig
from tests.rewards.sql.sql_fixture import CASES, case_sample, make_database

ROOT = Path(__file__).resolve().parents[2]
GROUPS = {"exec_error": EXEC_ERRORS, "limit": LIMITS}
BINARY = {"weight_format": 0.0, "weight_runs": 0.0}
# Rows that are right on the original only; copies tell them apart.
LUCKY = ["s024", "s029", "s037", "s048"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("databases")
    make_database(path / "shop.sqlite")
    return path


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(PoolConfig(num_workers=2)) as pool:
        yield pool


def reward(folder: Path, **settings: Any) -> SqlResult:  # any setting of the configuration
    return SqlResult(SqlResultConfig(database_folder=str(folder), **settings))


def sample(sql: str, gold: object = "SELECT name FROM emp", database: object = "shop") -> Sample:
    completion = f"<final_sql>{sql}</final_sql>"
    return Sample(completion=completion, reference={"db_id": database, "sql": gold})


def is_expected(case: dict[str, Any], score: Score) -> bool:  # a row of the table
    label = score.detail.split(":")[0]
    allowed = [status for v in case["verdict"].split("|") for status in GROUPS.get(v, [v])]
    return label in allowed and (score.value or 0.0) == case["expected"]


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_case_table(case: dict[str, Any], folder: Path) -> None:
    flags = case.get("flags", {})
    score = reward(
        folder,
        column_order=flags.get("column_order", "any"),
        num_perturbed=flags.get("instances", 1) - 1,
        **BINARY,
    ).score(case_sample(case))
    assert is_expected(case, score), (score, case["note"])
    assert (score.value is None) == bool(case.get("gold_empty"))


def test_the_case_table_is_complete() -> None:
    assert len(CASES) == 96 and sum(case["expected"] for case in CASES) == 25


def test_perturbed_copies_change_only_the_lucky_rows(folder: Path, pool: WorkerPool) -> None:
    plain = [case for case in CASES if not case.get("flags")]
    copies = reward(folder, num_perturbed=2, **BINARY)
    scores = score_batch(copies, [case_sample(case) for case in plain], pool)
    changed = [
        case["id"]
        for case, score in zip(plain, scores, strict=True)
        if not is_expected(case, score)
    ]
    assert changed == [case for case in LUCKY if case != "s048"]


def test_the_pool_and_the_process_agree(folder: Path, pool: WorkerPool) -> None:
    samples = [case_sample(case) for case in CASES]
    remote = score_batch(reward(folder), samples, pool)
    local = [reward(folder).score(sample) for sample in samples]
    assert [(s.value, s.verdict, s.detail, s.parts) for s in remote] == [
        (s.value, s.verdict, s.detail, s.parts) for s in local
    ]


@pytest.mark.parametrize(
    ("sql", "value", "verdict"),
    [
        ("SELECT e.name FROM emp e", 1.1, Verdict.CORRECT),
        ("SELECT age FROM emp", 0.2, Verdict.WRONG),
        ("SELECT 6", 0.2, Verdict.WRONG),
        ("SELECT nope FROM emp", 0.1, Verdict.UNPARSEABLE),
        ("DELETE FROM emp", 0.1, Verdict.REJECTED),
        ("-- nothing", 0.0, Verdict.NO_ANSWER),
    ],
)
def test_default_terms(folder: Path, sql: str, value: float, verdict: Verdict) -> None:
    score = reward(folder).score(sample(sql))
    assert (score.value, score.verdict) == (pytest.approx(value), verdict)
    assert sum(score.parts.values()) == score.value


def test_partial_terms_pay_wrong_queries_only(folder: Path) -> None:
    paid = reward(folder, weight_partial=0.3, weight_schema=0.3)
    parts = paid.score(sample("SELECT name FROM emp", "SELECT name, age FROM emp")).parts
    assert parts["partial"] == pytest.approx(0.3 * 2 / 3)
    assert parts["schema"] == pytest.approx(0.3 * 2 / 3)
    right = paid.score(sample("SELECT name FROM emp")).parts
    assert (right["partial"], right["schema"], right["runs"]) == (0.0, 0.0, 0.0)


def test_soft_f1_pays_no_repeats(folder: Path) -> None:
    soft = reward(folder, semantics="soft_f1", **BINARY)
    gold = "SELECT id, age FROM emp WHERE id = 1"
    repeated = soft.score(sample("SELECT id, id, id, id FROM emp WHERE id = 1", gold))
    assert repeated.value == pytest.approx(2 * 1 / 6)
    assert soft.score(sample("SELECT age, id FROM emp WHERE id = 1", gold)).value == 1.0


@pytest.mark.parametrize(
    "completion", ["", "<final_sql>SELECT 1", "<final_sql>SELECT name FROM emp</final_sql>"]
)
@pytest.mark.parametrize(
    "reference",
    [{}, {"db_id": "shop"}, {"db_id": 3, "sql": "SELECT 1"}, {"db_id": "shop", "sql": 3},
     {"db_id": "shop", "sql": []}, {"db_id": "nope", "sql": "SELECT 1"},
     {"db_id": "../shop", "sql": "SELECT 1"}, {"db_id": "shop", "sql": "SELECT nope"},
     {"db_id": "shop", "sql": "SELECT name FROM emp WHERE 0"}],
)  # fmt: skip
def test_a_bad_reference_is_none_whatever_the_model_wrote(
    folder: Path, reference: dict[str, object], completion: str
) -> None:
    score = reward(folder).score(Sample(completion=completion, reference=reference))
    assert (score.value, score.verdict) == (None, Verdict.BAD_REFERENCE)
    assert reward(folder).reference_problem(reference)


def test_a_good_reference_has_no_problem(folder: Path) -> None:
    assert (
        reward(folder).reference_problem({"db_id": "shop", "sql": "SELECT name FROM emp"}) is None
    )


HANG = "SELECT instr(a, b) FROM (SELECT replace(hex('" + "x" * 400 + "'), '7', '" + "78" * 400 + \
    "') || replace(hex('" + "x" * 200 + "'), '7', '" + "78" * 400 + "') AS a, replace(hex('" + "x" * 300 + \
    "'), '7', '" + "78" * 400 + "') || 'b' AS b), emp a1, emp a2, emp a3, emp a4"  # fmt: skip


def test_a_query_that_hangs_in_c_is_killed_and_others_go_on(folder: Path) -> None:
    short = reward(folder, timeout_s=1.0, **BINARY)
    samples = [sample("SELECT name FROM emp"), sample(HANG), sample("SELECT e.name FROM emp e")]
    start = time.monotonic()
    with WorkerPool(PoolConfig(num_workers=1)) as pool:
        scores = score_batch(short, [*samples, sample(HANG)], pool)
    assert [score.value for score in scores] == [1.0, 0.0, 1.0, 0.0]
    assert scores[1].verdict is scores[3].verdict is Verdict.TIMEOUT
    assert time.monotonic() - start < 10


def test_equal_queries_share_a_judgement_and_different_ones_do_not(folder: Path) -> None:
    key = reward(folder).dedup_key
    assert key(sample("SELECT 1")) == key(sample(" SELECT 1 "))
    assert key(sample("SELECT 1")) != key(sample("SELECT 2"))
    assert key(sample("SELECT 1")) != key(sample("SELECT 1", "SELECT age FROM emp"))
    tail = Sample(completion="<final_sql>SELECT 1</final_sql> x", reference=sample("").reference)
    assert key(sample("SELECT 1")) != key(tail)


def test_the_reward_can_be_pickled_after_use(folder: Path) -> None:
    used = reward(folder)
    used.score(sample("SELECT name FROM emp"))
    assert pickle.loads(pickle.dumps(used)).score(sample("SELECT name FROM emp")).value == 1.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backend": "mysql"}, "backend='mysql' is unknown"),
        ({"backend": "postgresql"}, "server_url"),
        ({"server_url": "postgresql://x"}, "server_url"),
        ({"weight_runs": 0.6, "weight_partial": 0.4}, "weight_exec=1.0 must exceed"),
        ({"weight_format": -1.0}, "not negative"),
        ({"weight_exec": float("inf")}, "finite"),
        ({"num_perturbed": 33}, "0..32"),
        ({"timeout_s": 0.0}, "positive"),
        ({"max_rows": 0}, "positive"),
        ({"semantics": "exact"}, "use one of strict, bird"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SqlResultConfig(**settings)


def test_the_module_needs_neither_the_extra_nor_torch() -> None:
    code = (
        "import sys, rewards.sql_result as m; m.SqlResult().warm_up(); "
        "print([n for n in ('sqlalchemy', 'psycopg', 'torch') if n in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"


PIECES = st.sampled_from(
    ["<final_sql>", "</final_sql>", "```sql\n", "```", "<result>", "</result>", "SELECT name FROM emp",
     "SELECT 6", ";", "--", "/*", "'", "\x00", "\ud800", "DROP TABLE emp", " UNION ALL ", "ORDER BY 1",
     " LIMIT 1", " WHERE age > 3", "(", ")", "SELECT * FROM emp, dept"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=10).map("".join))
@settings(max_examples=150, deadline=None)
def test_no_completion_raises_and_every_score_repeats_itself(folder: Path, completion: str) -> None:
    fuzzed = Sample(
        completion=completion, reference={"db_id": "shop", "sql": "SELECT name FROM emp"}
    )
    first, second = (SHARED.setdefault(folder, reward(folder)).score(fuzzed) for _ in range(2))
    assert (first.value, first.verdict, first.detail) == (
        second.value,
        second.verdict,
        second.detail,
    )
    assert first.value is not None and first.verdict not in (Verdict.TIMEOUT, Verdict.CRASHED)
    assert (first.value >= 1.0) == (first.verdict is Verdict.CORRECT)


SHARED: dict[Path, SqlResult] = {}
