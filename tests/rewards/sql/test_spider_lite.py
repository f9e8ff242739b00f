"""On real questions, when SQL_TEST_DATA names a folder that holds spider_lite (not in this repository)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rewards.sql.judge import Judge, Rules
from rewards.sql.outcome import Limits
from rewards.sql.sources import SqliteFiles

FOLDER = Path(os.environ.get("SQL_TEST_DATA", "missing")) / "spider_lite"


@pytest.mark.parametrize("split", ["dev", "train"])
def test_every_reference_runs_cheaply_and_matches_itself(split: str) -> None:
    if not FOLDER.is_dir():
        pytest.skip("SQL_TEST_DATA does not name a folder with spider_lite")
    judge = Judge(
        SqliteFiles(str(FOLDER / "databases"), Limits(max_steps=50_000)), Rules(num_perturbed=1)
    )
    rows = [
        json.loads(line) for line in (FOLDER / f"{split}.jsonl").read_text("utf-8").splitlines()
    ]
    wrong = [
        row["id"]
        for row in rows
        if judge.judge(row["db_id"], [row["sql"]], row["sql"]).label != "correct"
    ]
    assert len(rows) > 300 and wrong == []
