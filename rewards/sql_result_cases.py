"""Case tables of `SqlResult`: `ramify score --reward sql_result --cases sql.jsonl`."""

from __future__ import annotations

import atexit
import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from rewards.base import Sample
from rewards.cases import Case
from rewards.sql_result import SqlResult, SqlResultConfig


def read_case(row: Mapping[str, Any], folder: Path) -> Case:  # a row of the case table
    """A row of an SQL case table; `sql_fixture.sql` beside the table makes the database.

    The row's flags set column_order and the number of instances; a reference that returns nothing
    must be refused.
    """
    flags = row.get("flags", {})
    config = SqlResultConfig(
        database_folder=str(_fixture_folder(folder / "sql_fixture.sql")),
        column_order=flags.get("column_order", "any"),
        num_perturbed=flags.get("instances", 1) - 1,
        weight_format=0.0,
        weight_runs=0.0,
    )
    text = str(row["pred"])
    completion = text if row.get("raw") else f"<final_sql>{text}</final_sql>"
    return Case(
        id=str(row["id"]),
        reward=SqlResult(config),
        sample=Sample(completion=completion, reference={"db_id": "cases", "sql": row["gold"]}),
        expected=None if row.get("gold_empty") else float(row["expected"]),
    )


@lru_cache(maxsize=8)
def _fixture_folder(script: Path) -> Path:
    """A new folder with cases.sqlite, made by an SQL script; removed when the process ends."""
    if not script.is_file():
        raise ValueError(f"{script}: no such file; it makes the database of the case table")
    folder = Path(tempfile.mkdtemp(prefix="sql-cases-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with contextlib.closing(sqlite3.connect(folder / "cases.sqlite")) as connection:
        connection.executescript(script.read_text(encoding="utf-8"))
    return folder
