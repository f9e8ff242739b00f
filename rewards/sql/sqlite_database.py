"""Runs queries on a SQLite file that is opened read-only, or on a copy in memory."""

from __future__ import annotations

import hashlib
import re
import sqlite3
import time
from pathlib import Path
from urllib.parse import quote

from rewards.sql.outcome import ERROR_CHARS, Limits, Outcome, Row, Status
from rewards.sql.sqlite_guard import guard
from rewards.sql.sqlite_text import reads_clock, refusal

_HASHED_BYTES = 1 << 20
_PATH = re.compile(r"(?:/[\w.+-]+){2,}")
_TABLES = "SELECT lower(name) FROM sqlite_master WHERE type IN ('table', 'view')"

_MESSAGES: tuple[tuple[str, Status], ...] = (
    ("too many SQL variables", Status.SYNTAX_ERROR),
    ("too big", Status.SIZE_LIMIT),
    ("too large", Status.SIZE_LIMIT),
    ("too many", Status.SIZE_LIMIT),
    ("too complex", Status.SIZE_LIMIT),
    ("at most", Status.SIZE_LIMIT),
    ("stack overflow", Status.SIZE_LIMIT),
    ("out of memory", Status.SIZE_LIMIT),
    ("no such table", Status.NO_SUCH_TABLE),
    ("no such column", Status.NO_SUCH_COLUMN),
    ("ambiguous column", Status.AMBIGUOUS_COLUMN),
    ("no such function", Status.NO_SUCH_FUNCTION),
    ("no such module", Status.NO_SUCH_FUNCTION),
    ("syntax error", Status.SYNTAX_ERROR),
    ("unrecognized token", Status.SYNTAX_ERROR),
    ("incomplete input", Status.SYNTAX_ERROR),
    ("variable number", Status.SYNTAX_ERROR),
    ("null character", Status.SYNTAX_ERROR),
    ("surrogates", Status.SYNTAX_ERROR),
    ("one statement", Status.MULTIPLE_STATEMENTS),
    ("not authorized", Status.DENIED),
    ("prohibited", Status.DENIED),
    ("readonly", Status.DENIED),
    ("wrong number of arguments", Status.TYPE_ERROR),
    ("mismatch", Status.TYPE_ERROR),
)


def open_file(path: Path) -> sqlite3.Connection:
    """A connection that cannot write: read-only, immutable, no shared cache, no extension.

    Raises:
        sqlite3.OperationalError: There is no such file, or it is not a database.
    """
    connection = sqlite3.connect(
        f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1&cache=private",
        uri=True,
        isolation_level=None,
        cached_statements=0,  # a cached statement would not ask the authorizer again
        check_same_thread=False,
    )
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def file_fingerprint(path: Path) -> str:
    """Hash of the size and of the first and last MiB of the file."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(_HASHED_BYTES))
        file.seek(max(0, size - _HASHED_BYTES))
        digest.update(file.read(_HASHED_BYTES))
    return digest.hexdigest()


class SqliteDatabase:
    """Takes over a connection, locks it down and runs one query at a time.

    Args:
        connection: An open connection; the caller must not use it afterwards.
        fingerprint: Identity of the contents, for caches and seeds.
        limits: What each query may use.
    """

    def __init__(
        self, connection: sqlite3.Connection, fingerprint: str, limits: Limits | None = None
    ) -> None:
        self.fingerprint = fingerprint
        self.limits = limits or Limits()
        self._connection = connection
        self._known = frozenset(
            name for (name,) in connection.execute(_TABLES) if not name.startswith("sqlite_")
        )
        self._watch = guard(connection, self.limits)

    @classmethod
    def from_file(cls, path: Path, limits: Limits | None = None) -> SqliteDatabase:
        """Opens a file; see `open_file` for errors."""
        return cls(open_file(path), file_fingerprint(path), limits)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def execute(self, sql: str) -> Outcome:
        """Runs one statement under the limits; never raises because of what it says."""
        if len(sql) > self.limits.max_sql_chars:
            return Outcome(status=Status.SIZE_LIMIT, error_text="statement too long")
        if (status := refusal(sql)) is not None:
            return Outcome(status=status)
        outcome = self._run(sql)
        if outcome.error_text.startswith("Could not decode to UTF-8"):
            outcome = self._run_with_replacement(sql)
        return outcome

    def _run(self, sql: str) -> Outcome:
        self._watch.start()
        start = time.perf_counter()
        cursor = None
        try:
            cursor = self._connection.execute(sql)
            if cursor.description is None:
                return Outcome(status=Status.NOT_A_QUERY)
            if self._watch.uses_clock and reads_clock(sql):
                return Outcome(status=Status.NONDETERMINISTIC)
            return self._fetch(cursor, start)
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            return self._failure(error)
        except MemoryError:
            return Outcome(status=Status.SIZE_LIMIT, error_text="out of memory")
        finally:
            if cursor is not None:
                cursor.close()

    def _run_with_replacement(self, sql: str) -> Outcome:
        """For files with broken text: a decoder in Python is slower, so it is not the normal one."""
        self._connection.text_factory = lambda data: data.decode("utf-8", "replace")
        try:
            return self._run(sql)
        finally:
            self._connection.text_factory = str

    def _fetch(self, cursor: sqlite3.Cursor, start: float) -> Outcome:
        rows: list[Row] = []
        left = self.limits.max_result_bytes
        for row in cursor:
            if len(rows) == self.limits.max_rows:
                return Outcome(status=Status.ROW_LIMIT)
            for value in row:
                if type(value) is str or type(value) is bytes:
                    left -= len(value)
            if left < 0:
                return Outcome(status=Status.SIZE_LIMIT, error_text="result too large")
            rows.append(row)
        return Outcome(
            status=Status.OK,
            columns=tuple(str(column[0]) for column in cursor.description),
            rows=tuple(rows),
            reads=frozenset(read for read in self._watch.reads if read[0] in self._known),
            steps=self._watch.steps,
            elapsed_ms=(time.perf_counter() - start) * 1000,
        )

    def _failure(self, error: Exception) -> Outcome:
        text = _PATH.sub("<path>", str(error))[:ERROR_CHARS]
        status = self._watch.stopped or self._watch.refused or _status(str(error))
        return Outcome(status=status, steps=self._watch.steps, error_text=text)


def _status(message: str) -> Status:
    for part, status in _MESSAGES:
        if part in message:
            return status
    if message.startswith("You can only execute one"):
        return Status.MULTIPLE_STATEMENTS
    return Status.OTHER_ERROR
