"""The database of the two SQL tasks: 36 people in 6 teams, and the words of its questions.

    staff(name, team, age, pay)      team(name, city, floor, phone)

`recipes/data/office.sqlite` holds it; `write_database` made that file, and a test compares them.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

DATABASE = "office"
"""Name of the file, without ending; column `db_id` of the rows."""
TEAMS = ("red", "blue", "gold", "jade", "onyx", "ruby")
TEAM_COLUMNS = ("city", "floor", "phone")
NUMBERS = ("age", "pay")
"""Columns of `staff` that hold numbers."""
_NAMES = (
    "ada bob cat dan eve fay gus hal ida jon kim leo mia ned ola pam quin ray sue tom uma vic wes xan "
    "yan zoe abe bea cal dot eli flo gil hob ina jed"
)
_CITIES = ("oslo", "rome", "lima", "bern", "cairo", "delhi")
_OTHER_WORDS = (
    "name team staff count max min of with over under the is SELECT FROM WHERE rows "
    "<intermediate_sql> </intermediate_sql> <final_sql> </final_sql> <result> </result>"
)
_SCHEMA = (
    "CREATE TABLE staff (name TEXT PRIMARY KEY, team TEXT, age INTEGER, pay INTEGER);"
    "CREATE TABLE team (name TEXT PRIMARY KEY, city TEXT, floor INTEGER, phone INTEGER);"
)


@dataclass(frozen=True, slots=True)
class Person:
    """A row of `staff`."""

    name: str
    team: str
    age: int
    pay: int


@dataclass(frozen=True, slots=True)
class Team:
    """A row of `team`; all values of a column differ."""

    name: str
    city: str
    floor: int
    phone: int


@cache
def staff() -> tuple[Person, ...]:
    """All rows of `staff`, always the same."""
    rng = random.Random("office/staff")
    return tuple(
        Person(name, rng.choice(TEAMS), rng.randint(20, 65), rng.randint(30, 99))
        for name in _NAMES.split()
    )


@cache
def teams() -> tuple[Team, ...]:
    """All rows of `team`, always the same."""
    phones = random.Random("office/team").sample(range(10, 100), len(TEAMS))
    rows = zip(TEAMS, _CITIES, range(1, len(TEAMS) + 1), phones, strict=True)
    return tuple(Team(*row) for row in rows)


def words() -> tuple[str, ...]:
    """Tokens of several characters: each word alone, and with a blank in front."""
    found = (*_OTHER_WORDS.split(), *_NAMES.split(), *TEAMS, *TEAM_COLUMNS, *NUMBERS, *_CITIES)
    return tuple(chain.from_iterable((word, f" {word}") for word in found))


def fill(connection: sqlite3.Connection) -> None:
    """Creates and fills both tables."""
    connection.executescript(_SCHEMA)
    people = [(one.name, one.team, one.age, one.pay) for one in staff()]
    groups = [(one.name, one.city, one.floor, one.phone) for one in teams()]
    connection.executemany("INSERT INTO staff VALUES (?, ?, ?, ?)", people)
    connection.executemany("INSERT INTO team VALUES (?, ?, ?, ?)", groups)
    connection.commit()


def write_database(folder: Path) -> Path:
    """Writes `office.sqlite`, replacing one that is there."""
    path = folder / f"{DATABASE}.sqlite"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        fill(connection)
    return path


def contents(connection: sqlite3.Connection) -> Iterator[str]:
    """The database as SQL statements, for comparing."""
    return connection.iterdump()
