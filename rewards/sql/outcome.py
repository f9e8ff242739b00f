"""What running one query gave: a closed set of statuses, rows, and costs. Never an exception."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

Row = tuple[Any, ...]  # scalars of the database: None, bool, int, float, Decimal, str, bytes

ERROR_CHARS = 200


class Status(StrEnum):
    """How the execution of one query ended."""

    OK = "ok"
    """It ran; there may be no rows."""
    NO_SQL = "no_sql"
    """Nothing but space, comments and separators."""
    MULTIPLE_STATEMENTS = "multiple_statements"
    """More than one statement."""
    NOT_A_QUERY = "not_a_query"
    """EXPLAIN, or a statement without a result table."""
    DENIED = "denied"
    """A write, a setting, a file, or a function that the sandbox does not offer."""
    NONDETERMINISTIC = "nondeterministic"
    """Random numbers, the clock, the time zone or the state of the session."""
    SYNTAX_ERROR = "syntax_error"
    """The database or the parser cannot read it."""
    NO_SUCH_TABLE = "no_such_table"
    """An unknown table or view."""
    NO_SUCH_COLUMN = "no_such_column"
    """An unknown column."""
    AMBIGUOUS_COLUMN = "ambiguous_column"
    """A column name that several tables have."""
    NO_SUCH_FUNCTION = "no_such_function"
    """An unknown function."""
    TYPE_ERROR = "type_error"
    """Values of the wrong type or number, such as a text where a number is needed."""
    OTHER_ERROR = "other_error"
    """Any other error of the database."""
    STEP_LIMIT = "step_limit"
    """The budget of virtual-machine steps was used up."""
    ROW_LIMIT = "row_limit"
    """More rows than `Limits.max_rows`."""
    SIZE_LIMIT = "size_limit"
    """A value, the result, the statement or the memory grew beyond its limit."""
    TIMEOUT = "timeout"
    """The wall-clock backstop; depends on the machine, so it should be rare."""
    CRASHED = "crashed"
    """The connection to the server broke."""


EXEC_ERRORS = frozenset(
    (
        Status.SYNTAX_ERROR,
        Status.NO_SUCH_TABLE,
        Status.NO_SUCH_COLUMN,
        Status.AMBIGUOUS_COLUMN,
        Status.NO_SUCH_FUNCTION,
        Status.TYPE_ERROR,
        Status.OTHER_ERROR,
    )
)
"""The query is wrong in itself."""
LIMITS = frozenset((Status.STEP_LIMIT, Status.ROW_LIMIT, Status.SIZE_LIMIT, Status.TIMEOUT))
"""The query needs more than it may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one query may use."""

    max_steps: int = 20_000_000
    """SQLite virtual-machine steps; one million takes 10-40 ms."""
    max_rows: int = 10_000
    """Rows of the result."""
    max_value_bytes: int = 1_000_000
    """Bytes of one text or blob."""
    max_result_bytes: int = 16_000_000
    """Bytes of all texts and blobs of the result together."""
    max_heap_bytes: int = 256 * 1024**2
    """Memory of the SQLite library in this process."""
    max_sql_chars: int = 20_000
    """Length of the statement."""
    timeout_s: float = 4.0
    """Wall-clock backstop of one query, below the worker's limit."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name}={value} must be positive and finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Result of one execution."""

    status: Status
    columns: tuple[str, ...] = ()
    """Names from the result description, also when there are no rows."""
    rows: tuple[Row, ...] = ()
    """All rows when the status is OK, else empty."""
    reads: frozenset[tuple[str, str]] = frozenset()
    """(table, column) pairs of the database that were read, lower case; column "" means rows only."""
    steps: int = 0
    """SQLite virtual-machine steps, rounded up to the reporting interval; 0 on a server."""
    elapsed_ms: float = 0.0
    """Wall-clock milliseconds."""
    error_text: str = ""
    """Message of the database, at most 200 characters, without paths."""

    @property
    def tables(self) -> frozenset[str]:
        """Names of the tables that were read."""
        return frozenset(table for table, _ in self.reads if table)

    @property
    def is_ok(self) -> bool:
        """True when there is a result to compare."""
        return self.status is Status.OK


class Database(Protocol):
    """One database that queries can run against: a file, a copy in memory, or one on a server."""

    fingerprint: str
    """Changes when the contents do."""

    def execute(self, sql: str) -> Outcome:
        """Runs one statement under the limits; never raises because of what it says."""
        ...

    def close(self) -> None:
        """Gives the connection back."""
        ...
