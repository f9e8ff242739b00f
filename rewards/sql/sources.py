"""Where the databases of a data set are: files by name, and copies of them in memory."""

from __future__ import annotations

import math
import os
import re
import sqlite3
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from rewards.sql.constants import compared_constants
from rewards.sql.instances import Dump, dump, perturbed
from rewards.sql.outcome import Database, Limits
from rewards.sql.sqlite_database import SqliteDatabase, open_file

_NAME = re.compile(r"[\w][\w .+-]*")
_MAX_OPEN = 64
_MAX_DUMPS = 8


class NoDatabase(ValueError):
    """A row of the data set names a database that cannot be opened; `str()` says why."""


class Source(Protocol):
    """Opens databases by name."""

    dialect: str
    """sqlglot's name of the SQL dialect."""

    def database(self, name: str) -> Database:
        """The database, from a cache.

        Raises:
            NoDatabase: There is none of this name.
        """
        ...

    def copies(self, name: str, gold_sql: str) -> Iterator[Database]:
        """Perturbed copies, one after the other; the caller takes as many as it needs."""
        ...

    def num_copies(self, name: str) -> float:
        """How many copies there are, infinite when they are made on demand."""
        ...


def checked_name(name: str) -> str:
    """The name, when it cannot lead out of a folder.

    Raises:
        NoDatabase: It holds a path or nothing.
    """
    if not _NAME.fullmatch(name):
        raise NoDatabase(
            f"database name {name[:60]!r} may hold letters, digits, space and _ . + - only"
        )
    return name


class SqliteFiles:
    """`<folder>/<name>.sqlite` or `<folder>/<name>/<name>.sqlite`, as Spider and BIRD lay them out.

    Args:
        folder: The folder.
        limits: What each query may use.
    """

    dialect = "sqlite"

    def __init__(self, folder: str, limits: Limits) -> None:
        self._folder = Path(folder)
        self._limits = limits
        self._open: OrderedDict[tuple[str, int, int], SqliteDatabase] = OrderedDict()
        self._dumps: OrderedDict[str, Dump] = OrderedDict()

    def database(self, name: str) -> SqliteDatabase:
        """The database, from a cache that notices when the file changes."""
        path = self._path(name)
        status = os.stat(path)
        key = (name, status.st_size, status.st_mtime_ns)
        if key not in self._open:
            self._open[key] = self._opened(path)
            if len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(key)
        return self._open[key]

    def copies(self, name: str, gold_sql: str) -> Iterator[SqliteDatabase]:
        """Copies in memory with boundary rows for the query; endless, in a fixed order."""
        fingerprint = self.database(name).fingerprint
        source = self._dump(name, fingerprint)
        constants = compared_constants(gold_sql, self.dialect, source.schema)
        number = 0
        while True:
            seed = f"{fingerprint}:{number}"
            connection = perturbed(source, constants, seed)
            yield SqliteDatabase(connection, f"{seed}:{gold_sql}", self._limits)
            number += 1

    def num_copies(self, name: str) -> float:
        """Infinite: copies are made on demand."""
        return math.inf

    def _path(self, name: str) -> Path:
        checked_name(name)
        for ending in (".sqlite", ".db", ".sqlite3"):
            for path in (self._folder / f"{name}{ending}", self._folder / name / f"{name}{ending}"):
                if path.is_file():
                    return path
        raise NoDatabase(f"no file {name}.sqlite in {self._folder.name or 'the database folder'}")

    def _opened(self, path: Path) -> SqliteDatabase:
        try:
            return SqliteDatabase.from_file(path, self._limits)
        except (sqlite3.Error, OSError) as error:
            raise NoDatabase(f"{path.name}: {error}") from error

    def _dump(self, name: str, fingerprint: str) -> Dump:
        if fingerprint not in self._dumps:
            connection = open_file(self._path(name))
            try:
                self._dumps[fingerprint] = dump(connection)
            finally:
                connection.close()
            if len(self._dumps) > _MAX_DUMPS:
                self._dumps.popitem(last=False)
        return self._dumps[fingerprint]
