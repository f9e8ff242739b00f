r"""Questions that need a look into the database first; the looked-up value has to be copied.

    prompt        ada: city of the team?
    patient       <intermediate_sql>SELECT team FROM staff WHERE name = 'ada'</intermediate_sql>
    environment   \n<result>team\nruby\n(1 rows)</result>\n
    patient       <final_sql>SELECT city FROM team WHERE name = 'ruby'</final_sql>
    hasty         <final_sql>SELECT city FROM team WHERE name = 'gold'</final_sql>

A hasty answer guesses the team. Questions about 12 of the 36 people are held out. Demonstrations show
teams drawn at random, not those of the database: the policy learns to copy, not who is where.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from statistics import fmean

from rewards.sql.outcome import Outcome, Status
from rollout.envs.sql_agent import SqlAgent, SqlAgentConfig, feedback
from trainers.tasks import office
from trainers.tasks.base import (
    Demonstration,
    Piece,
    Respond,
    Row,
    Split,
    check_probabilities,
)

_NUM_HELDOUT = 12
"""People whose questions are held out."""
_SHOWN = SqlAgentConfig(executor="rewards.sql.row_database:row_database")


@dataclass(slots=True, kw_only=True)
class Habits:
    """How often a demonstration goes wrong, and how."""

    hasty_prob: float = 0.6
    """Probability of answering without a look, with a team drawn at random."""
    malformed_prob: float = 0.03
    """Probability that the last closing tag is missing."""

    def __post_init__(self) -> None:
        check_probabilities(self)


@dataclass(frozen=True, slots=True)
class Question:
    """A column of the team of a person."""

    column: str
    name: str

    @property
    def prompt(self) -> str:
        """The question as text."""
        return f"{self.name}: {self.column} of the team?"

    @property
    def look(self) -> str:
        """The query that finds the team."""
        return f"SELECT team FROM staff WHERE name = '{self.name}'"

    @property
    def sql(self) -> str:
        """The reference query."""
        return f"SELECT {self.column} FROM team WHERE name = ({self.look})"

    def final(self, team: str) -> str:
        """The query once the team is known, or guessed."""
        return f"SELECT {self.column} FROM team WHERE name = '{team}'"


def questions(split: Split) -> list[Question]:
    """All questions about the people of a split, shuffled."""
    names = [person.name for person in office.staff()]
    rng = random.Random("office_agent")
    rng.shuffle(names)
    chosen = names[:_NUM_HELDOUT] if split == "heldout" else names[_NUM_HELDOUT:]
    found = [Question(column, name) for name in chosen for column in office.TEAM_COLUMNS]
    rng.shuffle(found)
    return found


class OfficeAgent:
    """The task with its habits; see the module docstring."""

    title = "questions that need a look into the database"
    recipe = "toy_treepo_sql_agent"
    warmstart = "warmstart_sql_agent"
    words = office.words()
    num_turn_tokens = 24
    num_tokens = 96

    def __init__(self, mix: Habits) -> None:
        self._mix = mix
        self._everything = [*questions("train"), *questions("heldout")]

    def rows(self, split: Split) -> list[Row]:
        """Questions with `db_id` and `sql`, the columns that environment and reward read."""
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
        """Draws a question about anybody, with an invented team."""
        question, team = rng.choice(self._everything), rng.choice(office.TEAMS)
        is_hasty = is_mixed and rng.random() < self._mix.hasty_prob
        is_closed = not is_mixed or rng.random() >= self._mix.malformed_prob
        end = "</final_sql>" if is_closed else ""
        final = Piece(f"<final_sql>{question.final(team)}{end}")
        look = Piece(f"<intermediate_sql>{question.look}</intermediate_sql>")
        shown = Piece(observation(team), is_written=False)
        return Demonstration(question.prompt, (final,) if is_hasty else (look, shown, final))

    def figures(self, respond: Respond) -> dict[str, float]:
        """How often the first turn looks or answers."""
        asked = questions("heldout")
        prompts = [question.prompt for question in asked]
        greedy, sampled = respond(prompts, False), respond(prompts, True)
        looks = [f"<intermediate_sql>{question.look}</intermediate_sql>" for question in asked]
        return {
            "first turn looks, greedy": fmean(map(str.startswith, greedy, looks)),
            "first turn looks, one sample at temperature 1": fmean(
                map(str.startswith, sampled, looks)
            ),
            "samples that answer at once": fmean(
                text.startswith("<final_sql>") for text in sampled
            ),
        }

    def example(self) -> str:
        """A held-out question with both habits."""
        question = questions("heldout")[0]
        shown = observation("ruby").replace("\n", "\\n")
        return (
            f"prompt        {question.prompt}\n"
            f"patient       <intermediate_sql>{question.look}</intermediate_sql>\n"
            f"environment   {shown}\n"
            f"patient       <final_sql>{question.final('ruby')}</final_sql>\n"
            f"hasty         <final_sql>{question.final('gold')}</final_sql>"
        )


TASK = OfficeAgent
MIX = Habits


def observation(team: str) -> str:
    """What the environment would insert if this were the person's team."""
    result = Outcome(status=Status.OK, columns=("team",), rows=((team,),))
    turns = SqlAgent.turns
    return f"{turns.observation_open}{feedback(result, _SHOWN)}{turns.observation_close}"
