"""One question, one query: numbers and names of people with a condition.

    prompt      max pay of staff with age over 31?
    right       <final_sql>SELECT max(pay) FROM staff WHERE age > 31</final_sql>
    careless    <final_sql>SELECT max(pay) FROM staff</final_sql>
    confused    <final_sql>SELECT max(pay) FROM staff WHERE pay > 31</final_sql>

Some 1,300 questions; a hash of the question decides its split, one in eight is held out.
"""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from statistics import fmean

from trainers.tasks import office
from trainers.tasks.base import (
    Demonstration,
    Piece,
    Respond,
    Row,
    Split,
    check_probabilities,
    split_of,
)

_HELDOUT_ONE_IN = 8
_WANTED = ("name", "count", *(f"{how} {of}" for how in ("max", "min") for of in office.NUMBERS))
_SIGNS = {"over": ">", "under": "<"}


@dataclass(slots=True, kw_only=True)
class Habits:
    """How often a demonstration goes wrong, and how."""

    careless_prob: float = 0.55
    """Probability that the condition is forgotten."""
    confused_prob: float = 0.2
    """Probability that the condition is on the other number."""
    malformed_prob: float = 0.03
    """Probability that the closing tag is missing."""

    def __post_init__(self) -> None:
        check_probabilities(self)
        if self.careless_prob + self.confused_prob > 1.0:
            raise ValueError(
                f"careless_prob={self.careless_prob} and confused_prob={self.confused_prob} exclude "
                "each other; their sum may be at most 1"
            )


@dataclass(frozen=True, slots=True)
class Question:
    """What is wanted of the people whose `column` lies over or under `bound`."""

    wanted: str
    column: str
    relation: str
    bound: int

    @property
    def prompt(self) -> str:
        """The question as text."""
        return f"{self.wanted} of staff with {self.column} {self.relation} {self.bound}?"

    @property
    def sql(self) -> str:
        """The reference query."""
        return f"{self.careless} WHERE {self.column} {_SIGNS[self.relation]} {self.bound}"

    @property
    def careless(self) -> str:
        """The query without its condition."""
        how, _, of = self.wanted.partition(" ")
        term = {"name": "name", "count": "count(name)"}.get(self.wanted, f"{how}({of})")
        return f"SELECT {term} FROM staff"

    @property
    def confused(self) -> str:
        """The query with the condition on the other column."""
        other = next(name for name in office.NUMBERS if name != self.column)
        return f"{self.careless} WHERE {other} {_SIGNS[self.relation]} {self.bound}"

    @property
    def is_trivial(self) -> bool:
        """Whether the condition cannot matter: the maximum of what lies over a bound, for example."""
        how = "max" if self.relation == "over" else "min"
        return self.wanted == f"{how} {self.column}"

    @property
    def split(self) -> Split:
        """The only split in which this question may appear."""
        return split_of(self.prompt, _HELDOUT_ONE_IN)


@cache
def questions(split: Split) -> tuple[Question, ...]:
    """All questions of a split that somebody in the database meets, shuffled once."""
    with closing(sqlite3.connect(":memory:")) as database:
        office.fill(database)
        found = [
            question
            for column in office.NUMBERS
            for relation in _SIGNS
            for bound in range(20, 100)
            if _is_met(database, column, relation, bound)
            for question in (Question(wanted, column, relation, bound) for wanted in _WANTED)
            if question.split == split and not question.is_trivial
        ]
    random.Random(f"office_sql/{split}").shuffle(found)
    return tuple(found)


class OfficeSql:
    """The task with its habits; see the module docstring."""

    title = "questions about one small database"
    recipe = "toy_dcpo_sql"
    warmstart = "warmstart_sql"
    words = office.words()
    num_turn_tokens = 24
    num_tokens = 48

    def __init__(self, mix: Habits) -> None:
        self._mix = mix

    def rows(self, split: Split) -> list[Row]:
        """Questions with `db_id` and `sql`, the columns that the reward reads."""
        return [
            {
                "id": question.prompt[:-1],
                "prompt": question.prompt,
                "answer": question.sql,
                "db_id": office.DATABASE,
                "sql": question.sql,
            }
            for question in questions(split)
        ]

    def demonstration(self, rng: random.Random, *, is_mixed: bool) -> Demonstration:
        """Draws a training question with its query or, `is_mixed`, with a habitual mistake."""
        question = rng.choice(questions("train"))
        sql = self._habitual(question, rng) if is_mixed else question.sql
        is_closed = not is_mixed or rng.random() >= self._mix.malformed_prob
        end = "</final_sql>" if is_closed else ""
        return Demonstration(question.prompt, (Piece(f"<final_sql>{sql}{end}"),))

    def figures(self, respond: Respond) -> dict[str, float]:
        """How often the text of the reference is written, and of the mistakes."""
        asked = questions("heldout")
        prompts = [question.prompt for question in asked]
        greedy, sampled = respond(prompts, False), respond(prompts, True)
        named = {
            "reference, greedy": (greedy, "sql"),
            "reference, one sample at temperature 1": (sampled, "sql"),
            "samples without condition": (sampled, "careless"),
            "samples with the other column": (sampled, "confused"),
        }
        return {
            name: fmean(
                text == f"<final_sql>{getattr(question, form)}</final_sql>"
                for text, question in zip(texts, asked, strict=True)
            )
            for name, (texts, form) in named.items()
        }

    def example(self) -> str:
        """A held-out question with three queries."""
        question = questions("heldout")[0]
        lines = [f"prompt      {question.prompt}"]
        for form in ("sql", "careless", "confused"):
            name = "right" if form == "sql" else form
            lines.append(f"{name:<12}<final_sql>{getattr(question, form)}</final_sql>")
        return "\n".join(lines)

    def _habitual(self, question: Question, rng: random.Random) -> str:
        draw = rng.random()
        if draw < self._mix.careless_prob:
            return question.careless
        is_confused = draw < self._mix.careless_prob + self._mix.confused_prob
        return question.confused if is_confused else question.sql


TASK = OfficeSql
MIX = Habits


def _is_met(database: sqlite3.Connection, column: str, relation: str, bound: int) -> bool:
    query = f"SELECT 1 FROM staff WHERE {column} {_SIGNS[relation]} {bound} LIMIT 1"
    return database.execute(query).fetchone() is not None
