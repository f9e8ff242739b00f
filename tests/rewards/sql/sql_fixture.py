"""The small database of the case table, and rows of it as samples."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from rewards.base import Sample

CASE_FOLDER = Path(__file__).resolve().parents[2] / "data/verifier_cases"
CASES: list[dict[str, Any]] = [  # rows of the table
    json.loads(line) for line in (CASE_FOLDER / "sql.jsonl").read_text("utf-8").splitlines()
]


def make_database(path: Path) -> Path:
    """Writes the fixture of the case table into a file."""
    with sqlite3.connect(path) as connection:
        connection.executescript((CASE_FOLDER / "sql_fixture.sql").read_text("utf-8"))
    connection.close()
    return path


def case_sample(case: dict[str, Any]) -> Sample:  # a row of the table
    """A row of the table; plain SQL is put into the answer tag."""
    completion = case["pred"] if case.get("raw") else f"<final_sql>{case['pred']}</final_sql>"
    return Sample(completion=completion, reference={"db_id": "shop", "sql": case["gold"]})
