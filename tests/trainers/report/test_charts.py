"""Charts, the time line behind them, and the metrics that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.run_folders import write_run
from trainers.report import charts
from trainers.report.collect import read_run
from trainers.report.panels import GROUPS, matching
from trainers.report.timeline import spending, timeline

ROOT = Path(__file__).resolve().parents[3]


def test_every_panel_names_documented_metrics() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    documented = set(re.findall(r"`([^`]+)`", page))
    buckets = [key for key in documented if key.startswith("q_")]
    documented |= {f"clip/{side}_frac/{name}" for side in ("high", "low") for name in buckets}
    keys = [key for group in GROUPS for panel in group.panels for key in panel.keys]
    plain = {key for key in keys if not key.endswith("*")}
    assert plain - documented == set()
    starred = {key.removesuffix("*") for key in keys if key.endswith("*")}
    assert {key for key in starred if not any(x.startswith(key) for x in documented)} == set()


def test_a_star_stands_for_logged_keys() -> None:
    known = ["eval/avg_at_4", "eval/avg_at_1", "loss"]
    assert matching(["loss", "eval/avg_at_*"], known) == ["loss", "eval/avg_at_1", "eval/avg_at_4"]


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (["rollout/depth_mean", "rollout/depth_max"], ["mean", "max"]),
        (["clip/high_frac/q_below_0.01", "clip/high_frac/q_0.1_0.64"], ["below_0.01", "0.1_0.64"]),
        (["reward/rur", "reward/rur_above_0.05"], ["rur", "rur_above_0.05"]),
        (["rollout/finish_eos_frac", "rollout/finish_finished_frac"], ["eos", "finished"]),
        (["loss"], ["loss"]),
        (["a/x", "b/x"], ["a", "b"]),
    ],
)
def test_names_in_a_legend_are_what_tells_keys_apart(keys: list[str], names: list[str]) -> None:
    assert list(charts.short_names(keys).values()) == names


def test_the_running_mean_is_that_of_five_values() -> None:
    values = [(float(i), float(i)) for i in range(1, 8)]
    assert [y for _, y in charts.running_mean(values)] == [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0]


def test_a_run_has_a_line_per_metric_and_a_comparison_a_line_per_run(tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path / name, seed=i)) for i, name in enumerate("ab")]
    clip = next(group for group in charts.groups(runs[0]) if group["name"] == "Clipping")
    assert [line["name"] for line in clip["charts"][0]["series"]] == ["below_0.01", "0.1_0.64"]
    compared = next(g for g in charts.compared_groups(runs) if g["name"] == "Clipping")
    assert compared["charts"][0]["title"] == "Stopped upwards (A > 0): below_0.01"
    assert [line["run"] for line in compared["charts"][0]["series"]] == [0, 1]


def test_every_logged_metric_is_drawn_somewhere(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "a"))
    assert [chart["title"] for chart in charts.remaining([run])] == ["odd/key"]


def test_tokens_and_seconds_add_up_over_the_steps(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "a", steps=4))
    line = timeline(run.rows, run.settings)
    assert line.steps == (0, 1, 2, 3, 4)
    assert line.tokens == (0, 100, 100, 200, 200)
    assert line.seconds == (0, 2, 4, 6, 8)
    spent = spending(run.rows, run.settings)
    assert (spent.rollout_s, spent.reward_s, spent.other_s) == (3.0, 0.0, 5.0)


def test_a_row_over_several_steps_counts_for_all_of_them() -> None:
    rows = [
        {"step": 10.0, "loss": 0.0, "step_time": 2.0, "rollout/sampled_tokens": 100.0},
        {"step": 20.0, "loss": 0.0, "step_time": 3.0, "rollout/sampled_tokens": 50.0},
    ]
    settings = {"trainer.steps_per_generation": 4, "trainer.gradient_accumulation_steps": 2}
    line = timeline(rows, settings)  # a rollout batch every 2 updates, 5 of them per row
    assert line.tokens == (0, 500, 750)
    assert line.seconds == (0, 20, 50)
