"""Reading run folders: whole, interrupted, and what is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.run_folders import EVIL, write_rollouts, write_run
from trainers.report.collect import Interval, read_run


def test_a_finished_run_is_read_whole(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "a"))
    assert run.about == f"a run {EVIL}"
    assert run.settings["trainer.seed"] == 0
    assert run.last_step == 8
    assert run.is_finished
    assert [result.moment for result in run.evaluations] == ["before", "after"]
    assert run.evaluations[1].figures["Avg@4"] == Interval(value=0.75, low=0.7, high=0.8)
    assert [(step.step, len(step.samples)) for step in run.steps] == [(0, 1)]
    assert run.notes == ()


def test_lists_of_sections_become_dotted_keys(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    text = (folder / "recipe.yaml").read_text()
    rewards = "rewards:\n- type: math_answer\n  settings: {}\nlogging:\n  report_to: [wandb]"
    (folder / "recipe.yaml").write_text(text.replace("logging:", rewards, 1))
    settings = read_run(folder).settings
    assert settings["rewards.0.type"] == "math_answer"
    assert settings["rewards.0.settings"] == {}
    assert settings["logging.report_to"] == ["wandb"]


def test_an_interrupted_run_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", steps=3, is_finished=False)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    whole = write_rollouts(folder, 2).read_text()
    (folder / "rollouts" / "step_000002.jsonl").write_text(whole + whole[: len(whole) // 2])
    run = read_run(folder)
    assert run.last_step == 3
    assert not run.is_finished
    assert [(step.step, len(step.samples)) for step in run.steps] == [(0, 1), (2, 1)]
    assert run.notes == ("rollouts/step_000002.jsonl is shown in part: it breaks off in line 2.",)


def test_a_run_that_only_began_is_a_run_with_a_note(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    for name in ("metrics.jsonl", "evaluation.json", "rollouts/step_000000.jsonl"):
        (folder / name).unlink()
    run = read_run(folder)
    assert (run.rows, run.evaluations, run.steps, run.last_step) == ((), (), (), 0)
    assert "no metrics yet" in run.notes[0]


@pytest.mark.parametrize(
    ("name", "text", "note"),
    [
        ("recipe.yaml", "about: nothing", "recipe.yaml cannot be read"),
        ("evaluation.json", '{"before": {"k": 4', "evaluation.json cannot be read"),
        ("evaluation.json", '{"before": {"k": 4}}', "evaluation.json cannot be read"),
    ],
)
def test_a_broken_file_is_a_note(tmp_path: Path, name: str, text: str, note: str) -> None:
    folder = write_run(tmp_path / "a")
    (folder / name).write_text(text)
    assert note in read_run(folder).notes[0]


def test_what_is_no_run_is_refused_with_one_line(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    with pytest.raises(ValueError, match="is not a folder"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds neither metrics\.jsonl nor recipe\.yaml"):
        read_run(tmp_path)
    with pytest.raises(ValueError, match=r"the run is the folder above, .*/a$"):
        read_run(folder / "final")
