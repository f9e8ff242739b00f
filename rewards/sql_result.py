"""SQL reward: does the query of a completion return what the reference query returns?

Policy and statuses: docs/rewards_sql.md. The query runs in a sandbox (SQLite file opened read-only, or
a PostgreSQL server through a role that can only read); results are compared as bags with free column
order, tied rows may be swapped, and a query that matches must also match on perturbed copies of the
database. `score` has a step budget and a wall-clock backstop, but C code inside a database can hang:
call `rewards.batch.score_batch`, whose workers can be killed.

`detail` starts with a closed label: correct, wrong_result, no_table, no_sql, format, or a status of
`rewards.sql.outcome.Status`; a database message follows after a colon.
"""

from __future__ import annotations

import json
import math
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from rewards.base import Sample, Score, Verdict
from rewards.sql.completion import SQL_EXTRACTIONS, SqlAnswer, SqlExtraction, extract_sql
from rewards.sql.judge import (
    CORRECT,
    NO_TABLE,
    SEMANTICS,
    WRONG,
    BadGold,
    Finding,
    Judge,
    Rules,
    Semantics,
    is_refusal,
)
from rewards.sql.outcome import EXEC_ERRORS, Limits, Status
from rewards.sql.sources import Source, SqliteFiles
from rewards.sql.ties import OrderRule

_DETAIL_CHARS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlResultConfig:
    """Settings of `SqlResult`."""

    backend: Literal["sqlite", "postgresql"] = "sqlite"
    """Which database runs the queries; postgresql needs the extra: pip install "ramify[sql]"."""
    database_folder: str = "databases"
    """sqlite: folder with <name>.sqlite or <name>/<name>.sqlite."""
    server_url: str = ""
    """postgresql: postgresql+psycopg://reader@host:5432 of the read-only role, without a database."""
    database_column: str = "db_id"
    """Column of the data set with the name of the database."""
    gold_column: str = "sql"
    """Column with the reference query, or with a list of accepted ones."""
    extraction: SqlExtraction = "auto"
    """Where the query stands in a completion: auto, final_sql, answer, fenced or bare."""
    reasoning_end: str | None = None
    """When set, only text after its last occurrence counts, e.g. "</think>"."""
    has_results: bool = False
    """True when completions contain <result> blocks that an environment inserted; otherwise any such
    block is a forgery."""
    semantics: Semantics = "strict"
    """strict is ours; bird, spider, exact_set, soft_f1 compare as published, in our sandbox."""
    column_order: Literal["any", "strict"] = "any"
    """Whether columns may be permuted."""
    row_mode: Literal["bag", "set"] = "bag"
    """set ignores repeated rows and their order."""
    order: OrderRule = "auto"
    """auto: rows are ordered when the reference orders at its top level; always; never."""
    num_perturbed: int = 2
    """Perturbed copies on which a match must hold, too: 2 for training, 5 for evaluation."""
    weight_exec: float = 1.0
    """Paid for a correct query."""
    weight_format: float = 0.1
    """Paid when the completion ends with exactly one answer block."""
    weight_runs: float = 0.1
    """Paid for a wrong query that runs."""
    weight_partial: float = 0.0
    """Times the cell F1 of a wrong query that runs."""
    weight_schema: float = 0.0
    """Times the F1 of the columns read by a wrong query that runs."""
    max_steps: int = 20_000_000
    """SQLite virtual-machine steps per query."""
    max_rows: int = 10_000
    """Rows per result."""
    timeout_s: float = 10.0
    """Wall-clock seconds for one completion with all its queries; then the worker is killed."""

    def __post_init__(self) -> None:
        _check_choice("backend", self.backend, ("sqlite", "postgresql"))
        _check_choice("extraction", self.extraction, SQL_EXTRACTIONS)
        _check_choice("semantics", self.semantics, SEMANTICS)
        _check_choice("column_order", self.column_order, ("any", "strict"))
        _check_choice("row_mode", self.row_mode, ("bag", "set"))
        _check_choice("order", self.order, ("auto", "always", "never"))
        if (self.backend == "postgresql") != bool(self.server_url):
            raise ValueError(
                f"backend={self.backend!r} and server_url={self.server_url!r} do not fit; give a "
                "server_url exactly when the backend is postgresql"
            )
        if not 0 <= self.num_perturbed <= 32 or not 0 < self.timeout_s < math.inf:
            raise ValueError(
                f"num_perturbed={self.num_perturbed} must lie in 0..32 and timeout_s={self.timeout_s} "
                "be positive and finite"
            )
        self._check_dominance()
        self.limits()

    def limits(self) -> Limits:
        """What one query may use; the backstop leaves the worker time to answer."""
        timeout_s = 0.4 * self.timeout_s
        return Limits(max_steps=self.max_steps, max_rows=self.max_rows, timeout_s=timeout_s)

    def rules(self) -> Rules:
        """How results are compared."""
        return Rules(
            semantics=self.semantics,
            column_order=self.column_order,
            row_mode=self.row_mode,
            order=self.order,
            num_perturbed=self.num_perturbed,
            needs_partial=self.semantics == "soft_f1" or self.weight_partial > 0,
        )

    def _check_dominance(self) -> None:
        """No wrong completion may outscore a correct one that is well formed."""
        consolation = (self.weight_runs, self.weight_partial, self.weight_schema)
        weights = (self.weight_exec, self.weight_format, *consolation)
        if min(weights) < 0 or not sum(weights) < math.inf:
            raise ValueError(f"weights must be finite and not negative, got {weights}")
        if not self.weight_exec > sum(consolation):
            raise ValueError(
                f"weight_exec={self.weight_exec} must exceed weight_runs + weight_partial + "
                f"weight_schema = {sum(consolation)}; otherwise a wrong completion could score as "
                "much as a correct one"
            )


class SqlResult:
    """Judges the query of a completion; see the module docstring.

    Example:
        With a row `{"db_id": "shop", "sql": "SELECT name FROM emp"}`, the completion
        `<final_sql>SELECT e.name FROM emp AS e</final_sql>` is CORRECT and earns 1.0 + 0.1.
    """

    name = "sql_result"
    failure_value = 0.0

    def __init__(self, config: SqlResultConfig | None = None) -> None:
        self.config = config or SqlResultConfig()
        self.timeout_s = self.config.timeout_s
        self._judge: Judge | None = None
        self._is_in_worker = False

    def __getstate__(self) -> dict[str, Any]:  # attribute name -> value
        """Connections stay behind; the copy opens its own."""
        return self.__dict__ | {"_judge": None, "_is_in_worker": False}

    def warm_up(self) -> None:
        """Called once in a worker: connects lazily, but loads the parser now."""
        from rewards.sql.tree import canonical

        canonical("SELECT 1", "sqlite")
        self._is_in_worker = True

    def score(self, sample: Sample) -> Score:
        """Extracts, runs and compares; meant for a worker, see the module docstring."""
        start = time.perf_counter()
        answer = self._answer(sample.completion)
        with _no_file_growth(self._is_in_worker):
            verdict, parts, detail = self._judged(sample.reference, answer)
        seconds = time.perf_counter() - start
        value = None if verdict is Verdict.BAD_REFERENCE else math.fsum(parts.values())
        return Score(value=value, verdict=verdict, parts=parts, detail=detail, seconds=seconds)

    def dedup_key(self, sample: Sample) -> str:
        """Equal keys have equal scores: the statement, its form, and the columns used of the row."""
        answer = self._answer(sample.completion)
        columns = (self.config.database_column, self.config.gold_column)
        row = [sample.reference.get(name) for name in columns]
        return json.dumps(
            [answer.sql, answer.problem, answer.is_well_formed, row], default=str, sort_keys=True
        )

    def reference_problem(self, reference: Mapping[str, Any]) -> str | None:  # row of a data set
        """Why a data-set row cannot be judged, None when it can; runs the reference query."""
        try:
            database, golds = self._gold(reference)
            return self._the_judge().gold_problem(database, golds)
        except BadGold as error:
            return str(error)

    def _answer(self, completion: str) -> SqlAnswer:
        return extract_sql(
            completion,
            self.config.extraction,
            reasoning_end=self.config.reasoning_end,
            has_results=self.config.has_results,
        )

    def _gold(self, reference: Mapping[str, Any]) -> tuple[str, list[str]]:  # row of a data set
        database = reference.get(self.config.database_column)
        golds = reference.get(self.config.gold_column)
        found = [golds] if isinstance(golds, str) else golds
        if not isinstance(database, str):
            raise BadGold(f"column {self.config.database_column!r} holds no database name")
        if not isinstance(found, list) or not all(isinstance(sql, str) for sql in found):
            raise BadGold(f"column {self.config.gold_column!r} holds no query")
        return database, found

    def _judged(
        self, reference: Mapping[str, Any], answer: SqlAnswer
    ) -> tuple[Verdict, dict[str, float], str]:
        """The reference is checked first: None must not depend on what the model wrote."""
        try:
            database, golds = self._gold(reference)
            if answer.sql is None:
                if problem := self._the_judge().gold_problem(database, golds):
                    raise BadGold(problem)
                finding = Finding(label=answer.problem)
            else:
                finding = self._the_judge().judge(database, golds, answer.sql)
        except BadGold as error:
            return Verdict.BAD_REFERENCE, {}, str(error)[:_DETAIL_CHARS]
        detail = f"{finding.label}:{finding.error}" if finding.error else finding.label
        return _verdict(finding.label), self._parts(finding, answer), detail[:_DETAIL_CHARS]

    def _parts(self, finding: Finding, answer: SqlAnswer) -> dict[str, float]:
        config, is_right = self.config, finding.label == CORRECT
        exec_share = finding.soft if config.semantics == "soft_f1" else float(is_right)
        is_format = answer.is_well_formed and finding.label != Status.NO_SQL
        consolation = float(finding.runs and not is_right and not exec_share)
        return {
            "exec": config.weight_exec * exec_share,
            "format": config.weight_format * is_format,
            "runs": config.weight_runs * consolation,
            "partial": config.weight_partial * consolation * finding.partial,
            "schema": config.weight_schema * consolation * finding.schema,
        }

    def _the_judge(self) -> Judge:
        self._judge = self._judge or Judge(self._source(), self.config.rules())
        return self._judge

    def _source(self) -> Source:
        if self.config.backend == "sqlite":
            return SqliteFiles(self.config.database_folder, self.config.limits())
        from rewards.sql.postgres_database import PostgresServer  # needs the extra

        return PostgresServer(self.config.server_url, self.config.limits())


REWARD = SqlResult


@contextmanager
def _no_file_growth(is_on: bool) -> Iterator[None]:
    """No file can grow meanwhile; in workers only, because the limit holds for the whole process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if is_on:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        if is_on:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _verdict(label: str) -> Verdict:
    if label == CORRECT:
        return Verdict.CORRECT
    if label in (WRONG, NO_TABLE):
        return Verdict.WRONG
    if label in (Status.TIMEOUT, Status.CRASHED):
        return Verdict(label)
    if is_refusal(label):
        return Verdict.REJECTED
    return Verdict.UNPARSEABLE if label in EXEC_ERRORS else Verdict.NO_ANSWER


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; use one of {', '.join(choices)}")
