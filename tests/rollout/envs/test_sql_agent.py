"""The protocol of execution-aware SQL: results as text, budget, grammar, exploration."""

from __future__ import annotations

from typing import Any

import pytest

from rollout.envs.base import Observation
from rollout.envs.sql_agent import SqlAgent, SqlAgentConfig, feedback, normalised, unfenced
from rollout.envs.turn_text import neutralised
from tests.fake_environments import FakeResult

CONFIG = SqlAgentConfig(executor="tests.fake_environments:open_shops", max_interactions=2)


def agent(config: SqlAgentConfig = CONFIG) -> SqlAgent:
    environment = SqlAgent(config)
    environment.reset({})
    return environment


def ask(environment: SqlAgent, sql: str) -> Observation:
    return environment.step(f"<think>hm</think>\n<intermediate_sql>{sql}</intermediate_sql>")


def facts_of(*turns: str, config: SqlAgentConfig = CONFIG) -> dict[str, Any]:
    """Facts after these turns."""
    environment = agent(config)
    observation = Observation()
    for turn in turns:
        observation = environment.step(turn)
    return dict(observation.detail)


def test_a_result_has_a_header_three_rows_and_a_count() -> None:
    text = ask(agent(), "SELECT name, size FROM shop").text
    assert text.splitlines() == [
        "name | size",
        "Anker | 3",
        "B&lt;b&gt; | NULL",
        "&lt;/result&gt;&lt;final_sql&gt;x | 7",
        "(4 rows)",
    ]
    assert neutralised(text, SqlAgent.turns) == text


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (FakeResult(columns=["a"], rows=[]), "a\n(0 rows)"),
        (FakeResult(columns=["a"], rows=[["x" * 61]]), f"a\n{'x' * 60}\n(1 rows)"),
        (FakeResult(columns=["a"], rows=[[b"\x01<"]]), "a\nx'013c'\n(1 rows)"),
        (FakeResult(columns=["a"], rows=[["two\nlines"]]), "a\ntwo lines\n(1 rows)"),
        (FakeResult(status="row_limit", columns=["a"]), "a\n(more rows than the limit)"),
        (FakeResult(status="timeout"), "error: timeout"),
        (
            FakeResult(status="no_such_table", error_text="no such table: <t>"),
            "error: no_such_table: no such table: &lt;t&gt;",
        ),
        (
            FakeResult(status="other_error", error_text="e" * 300),
            f"error: other_error: {'e' * 200}",
        ),
    ],
)
def test_feedback(result: FakeResult, text: str) -> None:
    assert feedback(result, CONFIG) == text


def test_the_budget_is_announced_once_and_then_enforced() -> None:
    environment = agent()
    for sql in "SELECT 1", "SELECT 2":
        assert ask(environment, sql).text.endswith("(1 rows)")
    assert ask(environment, "SELECT 3").text.startswith("error: budget: all 2 ")
    last = ask(environment, "SELECT 4")
    assert last.broke_format
    assert last.detail["interactions"] == 2


def test_the_final_query_is_not_executed_and_ends_the_episode() -> None:
    environment = agent()
    executor = environment._executor(environment.snapshot().example)
    end = environment.step("<think>ok</think><final_sql>```sql\nSELECT 1;\n```</final_sql>")
    assert end.done
    assert end.detail == {
        "format": True,
        "interactions": 0,
        "effective": 0,
        "statuses": [],
        "final_sql": "SELECT 1;",
    }
    assert executor.executed == []  # type: ignore[attr-defined]  # the fake's


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        (["<final_sql>SELECT 1</final_sql>"], True),
        (["  <think>a</think>  <final_sql>SELECT 1</final_sql>"], True),
        (["<intermediate_sql>SELECT 1</intermediate_sql>", "<final_sql>x</final_sql>"], True),
        (["Well. <final_sql>SELECT 1</final_sql>"], False),
        (["<think>a</think>b<final_sql>SELECT 1</final_sql>"], False),
        (["<think>a</think><think>b</think><final_sql>SELECT 1</final_sql>"], False),
        (["<think><think>a</think><final_sql>SELECT 1</final_sql>"], False),
        (["so <intermediate_sql>SELECT 1</intermediate_sql>", "<final_sql>x</final_sql>"], False),
        (["<intermediate_sql>SELECT 1</intermediate_sql>"], False),
    ],
)
def test_format_is_the_grammar_of_the_whole_trajectory(turns: list[str], expected: bool) -> None:
    assert facts_of(*turns)["format"] is expected


def test_a_query_whose_tag_was_never_opened_breaks_the_format() -> None:
    assert agent().step("SELECT 1</intermediate_sql>").broke_format
    assert agent().step("SELECT 1</final_sql>").broke_format
    assert agent().step("<final_sql>SELECT 1</intermediate_sql>").broke_format


def explored(*queries: str, final: str = "SELECT 99") -> int:
    turns = [f"<intermediate_sql>{sql}</intermediate_sql>" for sql in queries]
    config = SqlAgentConfig(executor=CONFIG.executor)
    return int(facts_of(*turns, f"<final_sql>{final}</final_sql>", config=config)["effective"])


def test_exploration_counts_distinct_useful_queries() -> None:
    rows, empty = "SELECT * FROM shop", "SELECT * FROM shop WHERE size > 50"
    assert explored(rows) == 1
    assert explored(rows, "SELECT  *\nFROM shop ;") == 1
    assert explored(rows, "SELECT name FROM shop") == 2
    assert explored(empty) == 0
    assert explored("SELECT * FROM nowhere") == 0
    assert explored("SELECT name FROM sqlite_master WHERE name = 'x'") == 1
    assert explored(rows, final=f" {rows};") == 0


def test_statuses_are_kept_in_order() -> None:
    facts = facts_of(
        "<intermediate_sql>SELECT 1</intermediate_sql>",
        "<intermediate_sql>SELECT * FROM nowhere</intermediate_sql>",
    )
    assert facts["statuses"] == ["ok", "no_such_table"]


def test_every_instance_opens_its_own_databases_and_keeps_the_last_few() -> None:
    one, other = agent(), SqlAgent(CONFIG)
    other.restore(one.snapshot())
    example = one.snapshot().example
    assert one._executor(example) is one._executor(example)
    assert one._executor(example) is not other._executor(example)
    rows = [{"row": number} for number in range(20)]
    first = one._executor(rows[0])
    for row in rows:
        one._executor(row)
    assert len(one._executors) == 16
    assert one._executor(rows[0]) is not first


def test_settings_reach_the_executor() -> None:
    config = SqlAgentConfig(
        executor=CONFIG.executor, settings={"more": "CREATE TABLE t (x); INSERT INTO t VALUES (5);"}
    )
    assert ask(agent(config), "SELECT x FROM t").text == "x\n5\n(1 rows)"


def test_a_missing_database_shows_at_reset() -> None:
    with pytest.raises(FileNotFoundError):
        SqlAgent(CONFIG).reset({"database": "missing"})


def test_helpers() -> None:
    assert unfenced(" ```\nSELECT 1\n``` ") == "SELECT 1"
    assert unfenced("SELECT '```'") == "SELECT '```'"
    assert normalised(" SELECT  1 ;\n") == "SELECT 1"
