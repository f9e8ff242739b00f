"""Decides whether a query answers like the reference: on the original, then on perturbed copies."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, get_args

from rewards.sql.compare import Expected, matches, unordered
from rewards.sql.outcome import Database, Outcome, Status
from rewards.sql.parts import cell_f1, set_f1
from rewards.sql.published import bird_equal, exact_set_equal, soft_f1, spider_equal
from rewards.sql.sources import NoDatabase, Source
from rewards.sql.sqlite_text import without_distinct
from rewards.sql.ties import OrderRule, expected_result
from rewards.sql.values import row_keys

Semantics = Literal["strict", "bird", "spider", "exact_set", "soft_f1"]
SEMANTICS: tuple[str, ...] = get_args(Semantics)

_MAX_GOLDS = 64
_MAX_TRIES = 10
CORRECT, WRONG, NO_TABLE, EMPTY_GOLD = "correct", "wrong_result", "no_table", "empty_gold"


class BadGold(ValueError):
    """The reference cannot be used; `str()` is a short machine-readable cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How results are compared; see `SqlResultConfig` for the meaning."""

    semantics: Semantics = "strict"
    column_order: Literal["any", "strict"] = "any"
    row_mode: Literal["bag", "set"] = "bag"
    order: OrderRule = "auto"
    num_perturbed: int = 0
    needs_partial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the judge found out about one query."""

    label: str
    """correct, wrong_result, no_table, or a `Status`."""
    runs: bool = False
    """True when the query gave a result, right or wrong."""
    partial: float = 0.0
    """Cell F1 with the best reference, 1 when correct; computed with `needs_partial`."""
    schema: float = 0.0
    """F1 of the (table, column) pairs read, with the best reference."""
    soft: float = 0.0
    """Soft-F1, paid up to the cell F1; only with these semantics."""
    error: str = ""
    """Message of the database."""


@dataclass(slots=True)
class _Instance:
    """One database with the reference's result on it."""

    database: Database
    outcome: Outcome
    expected: Expected


@dataclass(slots=True)
class _Gold:
    sql: str
    original: _Instance
    copies: list[_Instance] | None = None  # made when a prediction first gets that far


@dataclass(slots=True)
class Judge:
    """Compares queries with references; results of references are cached.

    Args:
        source: Where the databases are.
        rules: How to compare.
    """

    source: Source
    rules: Rules
    num_gold_runs: int = 0
    _golds: OrderedDict[tuple[str, str], _Gold] = field(default_factory=OrderedDict)

    def gold_problem(self, database: str, golds: Sequence[str]) -> str | None:
        """Why the reference cannot be used, None when it can."""
        try:
            self._all_golds(database, golds)
        except BadGold as error:
            return str(error)
        return None

    def judge(self, database: str, golds: Sequence[str], sql: str) -> Finding:
        """Runs a query and compares it with each reference.

        Raises:
            BadGold: None of the references can be used; independent of `sql`.
        """
        found = self._all_golds(database, golds)
        outcome = found[0].original.database.execute(self._prepared(sql))
        if not outcome.is_ok:
            return Finding(label=outcome.status, error=outcome.error_text)
        if not outcome.tables and all(gold.original.outcome.tables for gold in found):
            return Finding(label=NO_TABLE, runs=True)
        is_right = any(self._is_right(gold, sql, outcome, database) for gold in found)
        schema = max(set_f1(gold.original.outcome.reads, outcome.reads) for gold in found)
        label = CORRECT if is_right else WRONG
        if not self.rules.needs_partial:
            return Finding(label=label, runs=True, schema=schema)
        partial = 1.0 if is_right else max(_partial(gold, outcome) for gold in found)
        soft = max(_soft(gold, outcome) for gold in found)
        return Finding(label=label, runs=True, schema=schema, partial=partial, soft=soft)

    def _all_golds(self, database: str, golds: Sequence[str]) -> list[_Gold]:
        """The usable references; the first one decides whether the row is usable."""
        if not golds:
            raise BadGold("no reference query")
        usable = [self._gold(database, golds[0])]
        for sql in golds[1:]:
            try:
                usable.append(self._gold(database, sql))
            except BadGold:  # an alternative spelling may fail, the row still has a reference
                continue
        return usable

    def _gold(self, name: str, sql: str) -> _Gold:
        try:
            database = self.source.database(name)
            num_copies = self.source.num_copies(name)
        except NoDatabase as error:
            raise BadGold(f"database:{error}") from error
        if num_copies < self.rules.num_perturbed:  # not later: the verdict must not depend on it
            raise BadGold(f"copies:{num_copies} of {self.rules.num_perturbed} perturbed ones exist")
        key = (database.fingerprint, sql)
        if key not in self._golds:
            self._golds[key] = _Gold(sql, self._instance(database, sql))
            if len(self._golds) > _MAX_GOLDS:
                _close(self._golds.popitem(last=False)[1])
        self._golds.move_to_end(key)
        return self._golds[key]

    def _instance(self, database: Database, sql: str) -> _Instance:
        self.num_gold_runs += 1
        outcome = database.execute(self._prepared(sql))
        if not outcome.is_ok:
            raise BadGold(f"gold:{outcome.status}:{outcome.error_text}"[:200])
        if not outcome.rows:
            raise BadGold(EMPTY_GOLD)
        expected = expected_result(
            sql, outcome, database, dialect=self.source.dialect, order=self.rules.order
        )
        return _Instance(database, outcome, expected)

    def _is_right(self, gold: _Gold, sql: str, outcome: Outcome, database: str) -> bool:
        if self.rules.semantics == "exact_set":
            return exact_set_equal(gold.sql, sql, self.source.dialect)
        if not self._is_equal(gold, gold.original, outcome):
            return False
        return all(
            self._is_equal(gold, copy, copy.database.execute(self._prepared(sql)))
            for copy in self._copies(gold, database)
        )

    def _copies(self, gold: _Gold, database: str) -> list[_Instance]:
        if gold.copies is None:
            gold.copies = []
            tries = self.source.copies(database, gold.sql) if self.rules.num_perturbed else iter(())
            for copy in islice(tries, self.rules.num_perturbed + _MAX_TRIES):
                try:
                    gold.copies.append(self._instance(copy, gold.sql))
                except BadGold:  # the reference is empty on this copy; the next one replaces it
                    copy.close()
                if len(gold.copies) == self.rules.num_perturbed:
                    break
        return gold.copies

    def _is_equal(self, gold: _Gold, instance: _Instance, outcome: Outcome) -> bool:
        return outcome.is_ok and _EQUAL[self.rules.semantics](self.rules, gold, instance, outcome)

    def _prepared(self, sql: str) -> str:
        return without_distinct(sql) if self.rules.semantics == "spider" else sql


def _close(gold: _Gold) -> None:
    for copy in gold.copies or []:
        copy.database.close()


def _strict(rules: Rules, gold: _Gold, instance: _Instance, outcome: Outcome) -> bool:
    expected, rows = instance.expected, row_keys(outcome.rows)
    if rules.row_mode == "set":
        expected = _as_set(instance)
        rows = list(dict.fromkeys(rows))
    is_any = rules.column_order == "any"
    return matches(expected, rows, len(outcome.columns), any_column_order=is_any)


def _as_set(instance: _Instance) -> Expected:
    rows = dict.fromkeys(row_keys(instance.outcome.rows))
    return unordered(list(rows), instance.expected.width)


def _bird(rules: Rules, gold: _Gold, instance: _Instance, outcome: Outcome) -> bool:
    return bird_equal(instance.outcome.rows, outcome.rows)


def _spider(rules: Rules, gold: _Gold, instance: _Instance, outcome: Outcome) -> bool:
    return spider_equal(instance.outcome, outcome, gold.sql)


_EQUAL: dict[str, Callable[[Rules, _Gold, _Instance, Outcome], bool]] = {
    "strict": _strict,
    "soft_f1": _strict,
    "bird": _bird,
    "spider": _spider,
}


def _partial(gold: _Gold, outcome: Outcome) -> float:
    reference = gold.original.outcome
    widths = (len(reference.columns), len(outcome.columns))
    return cell_f1(row_keys(reference.rows), row_keys(outcome.rows), widths)


def _soft(gold: _Gold, outcome: Outcome) -> float:
    return min(soft_f1(gold.original.outcome.rows, outcome.rows), _partial(gold, outcome))


def is_refusal(label: str) -> bool:
    """True for queries that the sandbox or a limit stopped, other than by wall-clock time."""
    return label in _REFUSALS


_REFUSALS = frozenset(
    (
        Status.MULTIPLE_STATEMENTS,
        Status.NOT_A_QUERY,
        Status.DENIED,
        Status.NONDETERMINISTIC,
        Status.STEP_LIMIT,
        Status.ROW_LIMIT,
        Status.SIZE_LIMIT,
    )
)
