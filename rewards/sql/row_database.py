"""Opens the SQLite database that a data-set row names, for environments that run queries.

rollout:
env:
type: sql_agent
options:
executor: rewards.sql.row_database:row_database
settings: {folder: data/databases}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rewards.sql.outcome import Limits
from rewards.sql.sources import SqliteFiles
from rewards.sql.sqlite_database import SqliteDatabase


def row_database(
    row: Mapping[str, Any],  # row of a data set
    *,
    folder: str,
    database_column: str = "db_id",
    max_steps: int = 20_000_000,
    max_rows: int = 10_000,
    timeout_s: float = 4.0,
) -> SqliteDatabase:
    """A new read-only connection in the sandbox of the reward; for use in one thread.

    Args:
        row: Holds the name of the database.
        folder: As `database_folder` of the reward `sql_result`.
        database_column: Column with the name.
        max_steps: SQLite virtual-machine steps per query.
        max_rows: Rows per result.
        timeout_s: Wall-clock backstop per query, in seconds.

    Raises:
        NoDatabase: The row names none, or there is no such file.
    """
    limits = Limits(max_steps=max_steps, max_rows=max_rows, timeout_s=timeout_s)
    return SqliteFiles(folder, limits).database(str(row.get(database_column, "")))
