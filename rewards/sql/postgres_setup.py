"""Prepares a PostgreSQL server: a role that can only read, databases with their own schema, copies.

What a role with SELECT and read-only transactions can still do on a stock server (lift its own time
limit, take advisory locks, end its siblings' sessions, create large objects, sleep) is closed by taking
EXECUTE on these functions from PUBLIC. Run as a superuser, once per server; repeating it is harmless.

Needs the extra: pip install "ramify[sql]".
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL, make_url

from rewards.sql.instances import Table, perturbed_rows
from rewards.sql.postgres_database import COPY_INFIX
from rewards.sql.sources import checked_name

Session: TypeAlias = psycopg.Connection[tuple[Any, ...]]

_REVOKED = (
    r"^(set_config|pg_(try_)?advisory_.*|pg_terminate_backend|pg_cancel_backend|lo_.*|loread|lowrite|"
    r"pg_sleep.*|(query|table|schema|database|cursor)_to_xml.*|pg_notify|pg_export_snapshot|"
    r"txid_current.*|pg_current_xact_id.*|pg_read_.*|pg_ls_.*|pg_stat_file|pg_stat_get_activity|"
    r"ts_stat|dblink.*|pg_logical_.*|pg_log_backend_memory_contexts)$"
)
_FUNCTIONS = (
    "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
    "WHERE n.nspname IN ('pg_catalog', 'public') AND p.prokind = 'f' AND p.proname ~ %s"
)
_SCHEMAS = (
    r"SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' "
    r"ORDER BY nspname = 'public', nspname"
)
_TABLES = (
    r"SELECT c.oid::regclass::text, c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    r"WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1"
)
_COLUMNS = (
    "SELECT quote_ident(attname), format_type(atttypid, atttypmod) FROM pg_attribute "
    "WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum"
)
_CONSTRAINTS = (
    r"SELECT conrelid::regclass::text, quote_ident(conname) FROM pg_constraint c "
    r"JOIN pg_namespace n ON n.oid = c.connamespace WHERE conrelid <> 0 AND n.nspname !~ '^pg_' "
    r"AND n.nspname <> 'information_schema' ORDER BY contype = 'f' DESC"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """The role that runs queries."""

    name: str = "sql_reader"
    """Role name."""
    password: str
    """Its password."""
    statement_timeout_ms: int = 4_000
    """Server-side limit per statement; the executor sets its own again in each transaction."""
    temp_file_limit: str = "64MB"
    """Stops sorts, joins and recursion that spill to disk."""
    work_mem: str = "16MB"
    """Memory per sort or hash."""
    connection_limit: int = 64
    """Sessions at the same time: workers times databases they keep open."""


def create_reader(admin_url: str, reader: Reader) -> None:
    """Creates or updates the role.

    Args:
        admin_url: A superuser's URL, with any database.
        reader: The role.
    """
    settings = {
        "default_transaction_read_only": "on",
        "statement_timeout": str(reader.statement_timeout_ms),
        "lock_timeout": str(reader.statement_timeout_ms),
        "idle_in_transaction_session_timeout": "60000",
        "temp_file_limit": reader.temp_file_limit,
        "work_mem": reader.work_mem,
        "max_parallel_workers_per_gather": "0",
    }
    role = sql.Identifier(reader.name)
    with _session(make_url(admin_url)) as admin:
        if not admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [reader.name]).fetchall():
            admin.execute(sql.SQL("CREATE ROLE {}").format(role))
        admin.execute(
            sql.SQL(
                "ALTER ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION "
                "NOBYPASSRLS CONNECTION LIMIT {} PASSWORD {}"
            ).format(role, reader.connection_limit, reader.password)
        )
        for name, value in settings.items():
            statement = sql.SQL("ALTER ROLE {} SET {} = {}")
            admin.execute(statement.format(role, sql.Identifier(name), value))


def load_database(admin_url: str, name: str, script: str, reader: Reader) -> None:
    """Creates a database, runs a script of plain SQL in a schema of its own, and opens it for reading.

    Args:
        admin_url: A superuser's URL, with any database.
        name: The new database; it must not exist.
        script: Schema and rows, without psql's backslash commands.
        reader: The role that may read it.

    Raises:
        psycopg.Error: The script fails.
    """
    url = make_url(admin_url)
    with _session(url) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(checked_name(name))))
    with _session(url.set(database=name)) as admin:
        admin.execute("CREATE SCHEMA data")
        admin.execute("SET search_path = data")
        admin.execute(script.encode())
    open_for_reading(admin_url, name, reader)


def open_for_reading(admin_url: str, name: str, reader: Reader) -> None:
    """Gives the role SELECT on a database and takes from PUBLIC what the module docstring lists."""
    role, database = sql.Identifier(reader.name), sql.Identifier(checked_name(name))
    with _session(make_url(admin_url).set(database=name)) as admin:
        admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
        admin.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, role))
        for (function,) in admin.execute(_FUNCTIONS, [_REVOKED]).fetchall():
            admin.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC".encode())
        schemas = [sql.Identifier(schema) for (schema,) in admin.execute(_SCHEMAS)]
        for schema in schemas:
            admin.execute(sql.SQL("REVOKE ALL ON SCHEMA {} FROM PUBLIC").format(schema))
            admin.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, role))
            grant = sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}")
            admin.execute(grant.format(schema, role))
        path = sql.SQL("ALTER ROLE {} IN DATABASE {} SET search_path = {}")
        admin.execute(path.format(role, database, sql.SQL(", ").join(schemas)))


def make_copies(admin_url: str, name: str, num_copies: int, reader: Reader) -> None:
    """Adds perturbed copies of a database (see `instances`), without rows at a query's boundaries.

    Args:
        admin_url: A superuser's URL, with another database than `name`; nobody may use `name` now.
        name: The database.
        num_copies: Copies `<name>__copy0` and so on; they must not exist.
        reader: The role that may read them.
    """
    url = make_url(admin_url)
    for number in range(num_copies):
        copy = f"{checked_name(name)}{COPY_INFIX}{number}"
        with _session(url) as admin:
            create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            admin.execute(create.format(sql.Identifier(copy), sql.Identifier(name)))
        with _session(url.set(database=copy)) as admin:
            _perturb(admin, random.Random(f"{name}:{number}"))
        open_for_reading(admin_url, copy, reader)


def _perturb(admin: Session, rng: random.Random) -> None:
    for table, constraint in admin.execute(_CONSTRAINTS).fetchall():
        admin.execute(
            f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {constraint} CASCADE".encode()
        )
    for table, oid in admin.execute(_TABLES).fetchall():
        columns = admin.execute(_COLUMNS, [oid]).fetchall()
        shown = ", ".join(f"{column}::text" for column, _ in columns)
        rows = admin.execute(f"SELECT {shown} FROM {table} ORDER BY ctid".encode()).fetchall()
        kept = perturbed_rows(Table(table, tuple((a, b) for a, b in columns), tuple(rows)), rng)
        admin.execute(f"TRUNCATE {table}".encode())
        places = ", ".join(f"CAST(%s AS {kind})" for _, kind in columns)
        names = ", ".join(column for column, _ in columns)
        insert = f"INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE VALUES ({places})"
        with admin.cursor() as cursor:
            cursor.executemany(insert.encode(), kept)


@contextmanager
def _session(url: URL) -> Iterator[Session]:
    """An autocommit session of the administrator."""
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as session:
        yield session
