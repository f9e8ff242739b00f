from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainers import cli

TABLE = Path(__file__).parents[1] / "data" / "verifier_cases" / "math.jsonl"


def write(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_predictions_are_judged_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(
        tmp_path / "p.jsonl",
        [
            {"id": "a", "completion": r"so \boxed{0.5}", "answer": "1/2"},
            {"id": "b", "completion": r"so \boxed{7}", "answer": "8"},
            {"id": "c", "completion": "no box", "answer": "8"},
        ],
    )
    out = tmp_path / "s.jsonl"
    code = cli.main(
        [
            "score",
            file,
            "--reward",
            "math_answer",
            "--out",
            str(out),
            "--set",
            "value_malformed=-1.0",
        ]
    )
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert code == 0
    assert [row["score"] for row in rows] == [1.0, 0.0, -1.0]
    assert [row["status"] for row in rows] == ["correct", "wrong", "no_answer"]
    assert [row["correct"] for row in rows] == [True, False, False]
    assert set(rows[0]) == {"id", "score", "correct", "status", "detail"}
    assert "3 rows, mean score 0.0000" in capsys.readouterr().out


def test_a_case_table_that_agrees_ends_with_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in TABLE.read_text().splitlines()[:40]]
    table = write(tmp_path / "cases.jsonl", rows)
    assert cli.main(["score", "--reward", "math_answer", "--cases", table]) == 0
    assert "agreement 40/40" in capsys.readouterr().out


@pytest.mark.parametrize(("reward", "size"), [("sql_result", 96), ("webshop_goal", 21)])
def test_the_tables_of_sql_and_webshop_agree(
    reward: str, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    table = TABLE.with_name("sql.jsonl" if reward == "sql_result" else "webshop.jsonl")
    assert cli.main(["score", "--reward", reward, "--cases", str(table)]) == 0
    assert f"agreement {size}/{size}" in capsys.readouterr().out


def test_a_case_that_disagrees_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"id": "x1", "gold": "4", "pred": "5", "raw": False, "expected": 1}
    table = write(tmp_path / "cases.jsonl", [row])
    assert cli.main(["score", "--reward", "math_answer", "--cases", table]) == 1
    assert "x1: expected 1.0, got 0.0 (wrong: 5)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reward", "math_answer"], "either a file of predictions or --cases"),
        (["no_such.jsonl", "--reward", "math_answer"], "no_such.jsonl: no such file"),
        (["no_such.jsonl", "--reward", "math_anser"], "math_answer"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["score", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_completion_and_a_wrong_setting_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "p.jsonl", [{"id": "a", "text": "x"}])
    assert cli.main(["score", file, "--reward", "math_answer"]) == 2
    assert "row 1: column 'completion' is missing or no text; it has id, text" in (
        capsys.readouterr().err
    )
    assert cli.main(["score", file, "--reward", "math_answer", "--set", "value_wrongg=1.0"]) == 2
    assert "did you mean value_wrong?" in capsys.readouterr().err
