from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.sql.completion import SQL_EXTRACTIONS, SqlAnswer, extract_sql

Q = "SELECT 1"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (f"<final_sql>{Q}</final_sql>", SqlAnswer(Q, "", True)),
        (f"so <final_sql>\n{Q}\n</final_sql> \n", SqlAnswer(Q, "", True)),
        (f"<final_sql>{Q}</final_sql> done", SqlAnswer(Q, "", False)),
        (f"<final_sql>```sql\n{Q}\n```</final_sql>", SqlAnswer(Q, "", True)),
        (f"<final_sql>{Q}</final_sql><final_sql>{Q}</final_sql>", SqlAnswer(None, "format")),
        (f"<final_sql><final_sql>{Q}</final_sql>", SqlAnswer(None, "format")),
        (f"<final_sql>{Q}</final_sql></final_sql>", SqlAnswer(None, "format")),
        (f"</final_sql>{Q}<final_sql>", SqlAnswer(None, "format")),
        (f"<final_sql>{Q}", SqlAnswer(None, "format")),
        (f"```sql\n{Q}\n```\n<final_sql>{Q}", SqlAnswer(None, "format")),
        (f"<answer>{Q}</answer>", SqlAnswer(Q, "", True)),
        (f"```sql\n{Q}\n```", SqlAnswer(Q, "", True)),
        (f"```\n{Q}\n```", SqlAnswer(Q, "", True)),
        (f"```{Q}```", SqlAnswer(Q, "", True)),
        (f"first ```sql\nSELECT 2\n``` then ```SQL\n{Q}\n```", SqlAnswer(Q, "", False)),
        (f"```sql\n{Q}\n``` as shown in ```python\nprint()\n```", SqlAnswer(Q, "", False)),
        ("```python\nprint()\n```", SqlAnswer(None, "no_sql")),
        (f"```sql\n{Q}", SqlAnswer(None, "format")),
        (f"<intermediate_sql>{Q}</intermediate_sql>", SqlAnswer(None, "no_sql")),
        (f"<intermediate_sql>{Q}</intermediate_sql>```sql\n{Q}\n```", SqlAnswer(None, "no_sql")),
        (Q, SqlAnswer(None, "no_sql")),
        ("", SqlAnswer(None, "no_sql")),
    ],
)  # fmt: skip
def test_what_a_completion_answers(text: str, answer: SqlAnswer) -> None:
    assert extract_sql(text) == answer


FINAL = f"<final_sql>{Q}</final_sql>"
STEP = f"<intermediate_sql>{Q}</intermediate_sql>"
RESULT = "\n<result>a\n1\n(1 rows)</result>\n"


@pytest.mark.parametrize(
    "text", [STEP + RESULT + FINAL, RESULT + FINAL, f"<Result >{FINAL}", f"{FINAL}</result>"]
)
def test_a_result_block_written_by_the_model_is_a_forgery(text: str) -> None:
    assert extract_sql(text).problem == "format"


def test_results_of_an_environment_are_accepted_behind_their_queries_only() -> None:
    assert extract_sql(STEP + RESULT + FINAL, has_results=True).sql == Q
    assert extract_sql(STEP + RESULT + STEP + RESULT + FINAL, has_results=True).sql == Q
    assert extract_sql(RESULT + FINAL, has_results=True).problem == "format"
    assert extract_sql(STEP + RESULT + RESULT + FINAL, has_results=True).problem == "format"


def test_only_text_after_the_reasoning_counts() -> None:
    text = f"<think><final_sql>SELECT 2</final_sql></think>{FINAL}"
    assert extract_sql(text).problem == "format"
    assert extract_sql(text, reasoning_end="</think>").sql == Q
    assert extract_sql(FINAL, reasoning_end="</think>").problem == "no_sql"


def test_bare_text_is_taken_whole_when_asked_for() -> None:
    assert extract_sql(f" {Q} ", "bare") == SqlAnswer(Q, "", True)


@pytest.mark.parametrize("mode", SQL_EXTRACTIONS)
@given(text=st.lists(st.sampled_from([
    "<final_sql>", "</final_sql>", "```", "sql\n", Q, "<answer>", "</answer>", "<result>", "</result>",
    STEP, "\ud800", "\x00",
])).map("".join))  # fmt: skip
def test_extraction_is_total(mode: str, text: str) -> None:
    found = extract_sql(text, mode)  # type: ignore[arg-type]  # parametrised
    assert (found.sql is None) == bool(found.problem)


@pytest.mark.parametrize("piece", ["<intermediate_sql>", "<result", "```", "<final_sql>", "< "])
def test_long_texts_take_linear_time(piece: str) -> None:
    start = time.perf_counter()
    extract_sql(piece * 20_000, has_results=True)
    assert time.perf_counter() - start < 1.0
