"""Runs queries on a PostgreSQL server through SQLAlchemy, as a role that can only read.

Every query has its own READ ONLY transaction with local limits and is declared as a server-side
cursor: the server then refuses anything but one SELECT or VALUES, and only rows that are fetched cross
the wire. Afterwards the transaction is rolled back and the session reset; a session in any unexpected
state is closed. Set the server up with `postgres_setup` first.

Needs the extra: pip install "ramify[sql]".
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg.types.string import TextLoader
from sqlalchemy import Connection, CursorResult, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from rewards.sql.outcome import ERROR_CHARS, Limits, Outcome, Row, Status
from rewards.sql.postgres_text import DIALECT, postgres_reads, postgres_refusal
from rewards.sql.sources import NoDatabase, checked_name

COPY_INFIX = "__copy"
"""`<database>__copy0`, `<database>__copy1`, ... are the perturbed copies of a database."""

_MAX_OPEN = 16
_MAX_CHUNK = 1_000
_PATH = re.compile(r"(?:/[\w.+-]+){2,}")
_AS_TEXT = [
    "date",
    "time",
    "timetz",
    "timestamp",
    "timestamptz",
    "interval",
    "json",
    "jsonb",
    "uuid",
    "inet",
    "cidr",
    "xml",
    "money",
]
_BY_STATE: tuple[tuple[str, Status], ...] = (
    ("42601", Status.SYNTAX_ERROR),
    ("42P01", Status.NO_SUCH_TABLE),
    ("42703", Status.NO_SUCH_COLUMN),
    ("42702", Status.AMBIGUOUS_COLUMN),
    ("42883", Status.NO_SUCH_FUNCTION),
    ("42501", Status.DENIED),
    ("25006", Status.DENIED),
    ("57014", Status.TIMEOUT),
    ("55P03", Status.TIMEOUT),
    ("42804", Status.TYPE_ERROR),
    ("42846", Status.TYPE_ERROR),
    ("22", Status.TYPE_ERROR),
    ("53", Status.SIZE_LIMIT),
    ("54", Status.SIZE_LIMIT),
    ("08", Status.CRASHED),
    ("57P", Status.CRASHED),
)


class PostgresServer:
    """The databases of one server, as the read-only role.

    Args:
        url: `postgresql+psycopg://role:password@host:port`, without a database.
        limits: What each query may use; steps do not exist here, time is the limit.
    """

    dialect = DIALECT

    def __init__(self, url: str, limits: Limits) -> None:
        self._url = make_url(url)
        self._limits = limits
        self._open: OrderedDict[str, PostgresDatabase] = OrderedDict()

    def database(self, name: str) -> PostgresDatabase:
        """The database, with a connection of its own that is reused."""
        if checked_name(name) not in self._open:
            database = PostgresDatabase(self._url.set(database=name), self._limits)
            if problem := database.problem():
                raise NoDatabase(f"{name}: {problem}")
            self._open[name] = database
            if len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(name)
        return self._open[name]

    def copies(self, name: str, gold_sql: str) -> Iterator[PostgresDatabase]:
        """The perturbed copies that were set up; they do not depend on the query."""
        for number in range(int(self.num_copies(name))):
            yield self.database(f"{name}{COPY_INFIX}{number}")

    def num_copies(self, name: str) -> float:
        """How many copies were set up."""
        return self.database(name).num_copies


class PostgresDatabase:
    """One database of a server; runs one query at a time.

    Args:
        url: With the database.
        limits: What each query may use.
    """

    def __init__(self, url: URL, limits: Limits) -> None:
        self.fingerprint = url.render_as_string(hide_password=True)
        self.num_copies = 0
        self._limits = limits
        self._name = str(url.database)
        self._engine = _engine(url, limits)

    def close(self) -> None:
        """Closes the connection; a further query opens a new one."""
        self._engine.dispose()

    def problem(self) -> str:
        """Why the database cannot be used, empty when it can; also counts the copies."""
        try:
            with self._engine.connect() as connection:
                prefix = f"{self._name}{COPY_INFIX}"
                found = connection.exec_driver_sql(
                    "SELECT count(*) FROM pg_catalog.pg_database WHERE left(datname, %s) = %s",
                    (len(prefix), prefix),
                ).scalar_one()
                self.num_copies = int(found)
        except SQLAlchemyError as error:
            return _text(error)
        return ""

    def execute(self, sql: str) -> Outcome:
        """Runs one statement under the limits; never raises because of what it says."""
        if len(sql) > self._limits.max_sql_chars:
            return Outcome(status=Status.SIZE_LIMIT, error_text="statement too long")
        if "\x00" in sql or (not sql.isprintable() and _has_surrogate(sql)):
            return Outcome(status=Status.SYNTAX_ERROR, error_text="not valid text")
        if (status := postgres_refusal(sql)) is not None:
            return Outcome(status=status)
        start = time.perf_counter()
        status, columns, rows, text = self._run(sql)
        return Outcome(
            status=status,
            columns=columns,
            rows=rows,
            reads=postgres_reads(sql),
            elapsed_ms=(time.perf_counter() - start) * 1000,
            error_text=text,
        )

    def _run(self, sql: str) -> tuple[Status, tuple[str, ...], tuple[Row, ...], str]:
        try:
            with self._engine.connect() as connection:
                try:
                    return self._in_transaction(connection, sql)
                except (SQLAlchemyError, psycopg.Error, MemoryError, ValueError) as error:
                    return _status(error), (), (), _text(error)
                finally:
                    _reset(connection)
        except SQLAlchemyError as error:
            return Status.CRASHED, (), (), _text(error)

    def _in_transaction(
        self, connection: Connection, sql: str
    ) -> tuple[Status, tuple[str, ...], tuple[Row, ...], str]:
        limit_ms = int(self._limits.timeout_s * 1000)
        connection = connection.execution_options(postgresql_readonly=True)
        connection.exec_driver_sql(
            f"SET LOCAL statement_timeout = {limit_ms}; SET LOCAL lock_timeout = {limit_ms}; "
            "SET LOCAL cursor_tuple_fraction = 1"
        )
        watchdog = threading.Timer(self._limits.timeout_s + 1, _cancel, [connection])
        watchdog.start()
        try:
            options = {"stream_results": True, "no_parameters": True, "max_row_buffer": 1}
            result = connection.exec_driver_sql(sql, execution_options=options)
            status, rows = self._fetch(result)
            return status, tuple(result.keys()), rows, ""
        finally:
            watchdog.cancel()

    def _fetch(self, result: CursorResult[Any]) -> tuple[Status, tuple[Row, ...]]:
        """Fetches in chunks that grow while rows are small, so that memory stays bounded."""
        rows: list[Row] = []
        left, chunk = self._limits.max_result_bytes, 1
        while found := result.fetchmany(chunk):
            sizes = [sum(_num_bytes(value) for value in row) for row in found]
            left -= sum(sizes)
            if left < 0:
                return Status.SIZE_LIMIT, ()
            rows += [tuple(map(_plain, row)) for row in found]
            if len(rows) > self._limits.max_rows:
                return Status.ROW_LIMIT, ()
            chunk = max(1, min(2 * chunk, _MAX_CHUNK, left // (16 * (max(sizes) + 1))))
        return Status.OK, tuple(rows)


def _engine(url: URL, limits: Limits) -> Engine:
    engine = create_engine(
        url,
        pool_size=1,
        max_overflow=0,
        pool_reset_on_return=None,  # _reset does it
        connect_args={
            "prepare_threshold": None,  # DISCARD ALL would drop what psycopg believes to be prepared
            "connect_timeout": 10,
            "application_name": "sql_result",
            "options": f"-c statement_timeout={int(limits.timeout_s * 1000)} -c timezone=UTC",
        },
    )

    @event.listens_for(engine, "connect")
    def as_text(connection: Any, _: object) -> None:  # psycopg's connection
        for name in _AS_TEXT:
            connection.adapters.register_loader(name, TextLoader)

    return engine


def _reset(connection: Connection) -> None:
    """Back to a fresh session, or none at all."""
    try:
        connection.rollback()
        session = connection.connection.dbapi_connection
        assert isinstance(session, psycopg.Connection)
        session.autocommit = True
        session.execute("DISCARD ALL")
        session.autocommit = False
    except (SQLAlchemyError, psycopg.Error, AssertionError):
        connection.invalidate()


def _cancel(connection: Connection) -> None:
    """Asks the server to stop; runs in the watchdog's thread when the server's own limit failed."""
    session = connection.connection.dbapi_connection
    if isinstance(session, psycopg.Connection):
        session.cancel_safe(timeout=1.0)


def _status(error: BaseException) -> Status:
    cause = getattr(error, "orig", error)
    if isinstance(cause, MemoryError):
        return Status.SIZE_LIMIT
    state = getattr(cause, "sqlstate", None)
    if state is None:
        is_lost = isinstance(cause, psycopg.OperationalError)
        return Status.CRASHED if is_lost else Status.OTHER_ERROR
    return next(
        (status for prefix, status in _BY_STATE if state.startswith(prefix)), Status.OTHER_ERROR
    )


def _text(error: BaseException) -> str:
    first = str(getattr(error, "orig", error)).partition("\n")[0]
    return _PATH.sub("<path>", first)[:ERROR_CHARS]


def _num_bytes(value: object) -> int:
    return len(value) if isinstance(value, str | bytes) else 16


def _plain(value: Any) -> Any:  # what psycopg loads, to a scalar
    return (
        json.dumps(value, default=str, sort_keys=True) if isinstance(value, list | dict) else value
    )


def _has_surrogate(sql: str) -> bool:
    return any("\ud800" <= mark <= "\udfff" for mark in sql)
