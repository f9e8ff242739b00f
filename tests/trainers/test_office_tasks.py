"""The two SQL tasks: their database, their questions, their demonstrations."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from rewards.base import Sample, Verdict
from rewards.sql.row_database import row_database
from rewards.sql_result import SqlResult, SqlResultConfig
from rollout.envs.sql_agent import SqlAgent, SqlAgentConfig
from trainers.tasks import office, office_agent, office_sql
from trainers.tasks.base import Demonstration, Row, Task, load_task
from trainers.tasks.char_tokenizer import char_tokenizer

DATA = Path(__file__).resolve().parents[2] / "recipes" / "data"
TASKS = ("office_sql", "office_agent")


def reward(num_perturbed: int = 0, *, has_results: bool = False) -> SqlResult:
    config = SqlResultConfig(
        database_folder=str(DATA), num_perturbed=num_perturbed, has_results=has_results
    )
    return SqlResult(config)


def verdict(judge: SqlResult, row: Row, completion: str) -> Verdict:
    return judge.score(Sample(completion=completion, reference=row)).verdict


def drawn(task: Task, num: int, *, is_mixed: bool) -> list[Demonstration]:
    rng = random.Random(5)
    return [task.demonstration(rng, is_mixed=is_mixed) for _ in range(num)]


def test_the_shipped_database_is_the_generated_one(tmp_path: Path) -> None:
    made = office.write_database(tmp_path)
    with (
        closing(sqlite3.connect(made)) as expected,
        closing(sqlite3.connect(DATA / made.name)) as shipped,
    ):
        assert list(office.contents(shipped)) == list(office.contents(expected))
        assert shipped.execute("SELECT count(*) FROM staff").fetchone() == (36,)


@pytest.mark.parametrize("name", TASKS)
def test_no_question_is_in_both_splits_or_twice(name: str) -> None:
    task = load_task(name, {})
    prompts = [str(row["prompt"]) for part in ("train", "heldout") for row in task.rows(part)]
    assert len(prompts) == len(set(prompts)) > 100


def test_the_people_of_held_out_questions_are_not_trained_on() -> None:
    train, heldout = (
        {question.name for question in office_agent.questions(part)}
        for part in ("train", "heldout")
    )
    assert (len(train), len(heldout)) == (24, 12)
    assert not train & heldout


def test_every_reference_can_be_judged() -> None:
    judge = reward()
    for name in TASKS:
        rows = [*load_task(name, {}).rows("train"), *load_task(name, {}).rows("heldout")]
        assert {judge.reference_problem(row) for row in rows} == {None}


def test_exemplary_queries_are_right_and_mistakes_mostly_wrong() -> None:
    judge = reward(4)
    asked = random.Random(1).sample(office_sql.questions("heldout"), 60)
    found: dict[str, Counter[Verdict]] = {}
    for form in ("sql", "careless", "confused"):
        found[form] = Counter(
            verdict(
                judge,
                {"db_id": office.DATABASE, "sql": question.sql},
                f"<final_sql>{getattr(question, form)}</final_sql>",
            )
            for question in asked
        )
    assert found["sql"] == {Verdict.CORRECT: 60}
    assert found["careless"][Verdict.WRONG] > 30
    assert found["confused"][Verdict.WRONG] > 40


def test_the_tokenizer_takes_a_query_in_few_tokens() -> None:
    tokenizer = char_tokenizer(office.words())
    for name in TASKS:
        task = load_task(name, {})
        for demonstration in drawn(task, 200, is_mixed=False):
            texts = [piece.text for piece in demonstration.pieces if piece.is_written]
            assert max(len(ids) for ids in tokenizer(texts)["input_ids"]) <= task.num_turn_tokens
            everything = demonstration.prompt + "".join(p.text for p in demonstration.pieces)
            ids = tokenizer(everything)["input_ids"]
            assert len(ids) <= task.num_tokens
            assert tokenizer.decode(ids) == everything


def test_habits_come_at_their_rates() -> None:
    task = load_task("office_sql", {"careless_prob": 0.5, "confused_prob": 0.2})
    texts = [one.pieces[0].text for one in drawn(task, 2000, is_mixed=True)]
    assert sum("WHERE" not in text for text in texts) / 2000 == pytest.approx(0.5, abs=0.04)
    assert sum(not text.endswith("</final_sql>") for text in texts) > 20
    agent = load_task("office_agent", {"hasty_prob": 0.6})
    lengths = Counter(len(one.pieces) for one in drawn(agent, 2000, is_mixed=True))
    assert lengths[1] / 2000 == pytest.approx(0.6, abs=0.04)


def test_exclusive_habits_must_leave_room() -> None:
    with pytest.raises(ValueError, match="may be at most 1"):
        load_task("office_sql", {"careless_prob": 0.7, "confused_prob": 0.4})


def test_an_observation_is_what_the_environment_inserts() -> None:
    """The environment's own answer to the demonstrated look, framed as in a rollout."""
    options = SqlAgentConfig(
        executor="rewards.sql.row_database:row_database", settings={"folder": str(DATA)}
    )
    environment = SqlAgent(options)
    for question in office_agent.questions("train")[:20]:
        environment.reset({"db_id": office.DATABASE})
        answer = environment.step(f"<intermediate_sql>{question.look}</intermediate_sql>")
        team = next(one.team for one in office.staff() if one.name == question.name)
        framed = f"{SqlAgent.turns.observation_open}{answer.text}{SqlAgent.turns.observation_close}"
        assert framed == office_agent.observation(team)


def test_the_answer_that_copies_the_team_is_right_and_any_other_wrong() -> None:
    judge = reward(has_results=True)
    for question in office_agent.questions("heldout")[:12]:
        row = {"db_id": office.DATABASE, "sql": question.sql}
        right = next(one.team for one in office.staff() if one.name == question.name)
        for team in office.TEAMS:
            text = f"<final_sql>{question.final(team)}</final_sql>"
            assert (verdict(judge, row, text) is Verdict.CORRECT) == (team == right)


def test_a_row_opens_its_database_in_the_sandbox() -> None:
    database = row_database({"db_id": "office"}, folder=str(DATA))
    assert database.execute("SELECT count(*) FROM team").rows == ((6,),)
    assert database.execute("DELETE FROM team").status == "denied"


def test_a_row_without_database_is_refused() -> None:
    with pytest.raises(ValueError, match="database name ''"):
        row_database({}, folder=str(DATA))
