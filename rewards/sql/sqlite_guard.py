"""Locks a SQLite connection down: after `guard` it can read tables and nothing else.

Order matters: settings are made first, the authorizer then refuses further ones. The lists of
functions are allow-lists; a function that a future SQLite adds is refused until it is listed.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from dataclasses import dataclass, field

from rewards.sql.outcome import Limits, Status
from rewards.sql.sqlite_text import CLOCK_FUNCTIONS

STEP_INTERVAL = 10_000
"""Virtual-machine steps between two looks at the budget."""

_CLOCK_KEYWORDS = frozenset(("current_date", "current_time", "current_timestamp"))
_UNSTABLE = frozenset(
    [
        "random",
        "changes",
        "total_changes",
        "last_insert_rowid",
        "sqlite_version",
        "sqlite_source_id",
        "sqlite_compileoption_get",
        "sqlite_compileoption_used",
    ]
)
_ALLOWED = CLOCK_FUNCTIONS | frozenset(
    [
        "abs",
        "char",
        "coalesce",
        "concat",
        "concat_ws",
        "glob",
        "hex",
        "if",
        "ifnull",
        "iif",
        "instr",
        "length",
        "like",
        "likelihood",
        "likely",
        "lower",
        "ltrim",
        "max",
        "min",
        "nullif",
        "octet_length",
        "quote",
        "replace",
        "round",
        "rtrim",
        "sign",
        "soundex",
        "substr",
        "substring",
        "trim",
        "typeof",
        "unhex",
        "unicode",
        "unistr",
        "unistr_quote",
        "unlikely",
        "upper",
        "avg",
        "count",
        "group_concat",
        "median",
        "percentile",
        "percentile_cont",
        "percentile_disc",
        "string_agg",
        "sum",
        "total",
        "row_number",
        "rank",
        "dense_rank",
        "percent_rank",
        "cume_dist",
        "ntile",
        "lag",
        "lead",
        "first_value",
        "last_value",
        "nth_value",
        "acos",
        "acosh",
        "asin",
        "asinh",
        "atan",
        "atan2",
        "atanh",
        "ceil",
        "ceiling",
        "cos",
        "cosh",
        "degrees",
        "exp",
        "floor",
        "ln",
        "log",
        "log10",
        "log2",
        "mod",
        "pi",
        "pow",
        "power",
        "radians",
        "sin",
        "sinh",
        "sqrt",
        "tan",
        "tanh",
        "trunc",
        "json",
        "json_array",
        "json_array_length",
        "json_each",
        "json_error_position",
        "json_extract",
        "json_group_array",
        "json_group_object",
        "json_insert",
        "json_object",
        "json_patch",
        "json_pretty",
        "json_quote",
        "json_remove",
        "json_replace",
        "json_set",
        "json_tree",
        "json_type",
        "json_valid",
        "->",
        "->>",
    ]
)
_LIMITS = {
    sqlite3.SQLITE_LIMIT_COLUMN: 256,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 32,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 200,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 32,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_DBCONFIG_DEFENSIVE = 1010
_DBCONFIG_ENABLE_LOAD_EXTENSION = 1005


@dataclass(slots=True)
class Watch:
    """What the callbacks of one connection saw during the current statement."""

    limits: Limits
    steps: int = 0
    deadline: float = 0.0
    refused: Status | None = None
    stopped: Status | None = None
    uses_clock: bool = False
    reads: set[tuple[str, str]] = field(default_factory=set)

    def start(self) -> None:
        """Forgets the last statement and starts the budgets."""
        self.steps = 0
        self.deadline = time.monotonic() + self.limits.timeout_s
        self.refused = self.stopped = None
        self.uses_clock = False
        self.reads = set()

    def authorize(
        self,
        action: int,
        first: str | None,
        second: str | None,
        database: str | None,
        by: str | None,
    ) -> int:
        """SQLite's question while it compiles a statement: may it do this?"""
        if action == sqlite3.SQLITE_READ:
            self.reads.add(((first or "").lower(), (second or "").lower()))
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION:
            return self._function((second or "").lower())
        if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
            return sqlite3.SQLITE_OK
        self.refused = Status.DENIED
        return sqlite3.SQLITE_DENY

    def progress(self) -> int:
        """Called every `STEP_INTERVAL` steps; not zero stops the statement."""
        self.steps += STEP_INTERVAL
        if self.steps >= self.limits.max_steps:
            self.stopped = Status.STEP_LIMIT
        elif time.monotonic() > self.deadline:
            self.stopped = Status.TIMEOUT
        return self.stopped is not None

    def _function(self, name: str) -> int:
        if name in _ALLOWED:
            self.uses_clock = self.uses_clock or name in CLOCK_FUNCTIONS
            return sqlite3.SQLITE_OK
        is_unstable = name in _UNSTABLE or name in _CLOCK_KEYWORDS
        self.refused = Status.NONDETERMINISTIC if is_unstable else Status.DENIED
        return sqlite3.SQLITE_DENY


def guard(connection: sqlite3.Connection, limits: Limits) -> Watch:
    """Restricts the connection for good and returns its watch.

    Side effects: the heap limit holds for every SQLite connection of the process.
    """
    settings = {
        "query_only": 1,
        "trusted_schema": 0,
        "temp_store": 2,
        "cell_size_check": 1,
        "mmap_size": 0,
        "hard_heap_limit": limits.max_heap_bytes,
    }
    for name, value in settings.items():
        connection.execute(f"PRAGMA {name}={value}").fetchall()
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limits.max_value_bytes)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, min(limits.max_sql_chars * 4, 1_000_000))
    for category, value in _LIMITS.items():
        connection.setlimit(category, value)
    if sys.version_info >= (3, 12):
        connection.setconfig(_DBCONFIG_DEFENSIVE, True)
        connection.setconfig(_DBCONFIG_ENABLE_LOAD_EXTENSION, False)
    watch = Watch(limits)
    connection.set_progress_handler(watch.progress, STEP_INTERVAL)
    connection.set_authorizer(watch.authorize)
    return watch
