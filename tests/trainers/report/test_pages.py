"""The pages as text: complete, self-contained, and safe whatever a model wrote."""

from __future__ import annotations

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.run_folders import LEAF, write_rollouts, write_run
from trainers import cli
from trainers.report.collect import read_run
from trainers.report.compare_page import (
    comparison_page,
    differing_settings,
    run_names,
    write_comparison,
)
from trainers.report.figures import clip_means, clock, figures
from trainers.report.page import script_json, write_page
from trainers.report.rollouts import MAX_TREES, extremes, shown_trees
from trainers.report.run_page import run_page, write_report


class Elements(HTMLParser):
    """Names and attributes of all elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def page_data(text: str) -> dict[str, Any]:  # parsed JSON
    found = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', text)
    assert found is not None
    return json.loads(found.group(1))


def test_the_report_has_every_part(tmp_path: Path) -> None:
    text = run_page(read_run(write_run(tmp_path / "a")))
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert headings == [
        "Evaluation",
        "Learning",
        "Clipping",
        "Lengths and trees",
        "Time",
        "Best and worst",
        "Rollout tree",
        "Settings",
        "All metrics",
    ]
    assert "0.750<small>0.700 to 0.800</small>" in text
    assert page_data(text)["trees"][0]["segments"][2]["advantage"] == 0.75


def test_nothing_is_fetched_and_nothing_of_a_model_becomes_an_element(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "<img src=x>"))
    for text in (run_page(run), comparison_page([run, run])):
        elements = Elements(text).found
        assert [tag for tag, _ in elements].count("script") == 2
        assert "img" not in [tag for tag, _ in elements]
        fetching = {"src", "srcset", "action", "data", "poster", "background"}
        assert [attrs for _, attrs in elements if fetching & set(attrs)] == []
        links = [attrs["href"] for _, attrs in elements if "href" in attrs]
        assert all(link is not None and link.startswith("#") for link in links)
        assert "<script>window" not in text
        assert "default-src 'none'" in text


def test_texts_of_a_model_reach_the_script_unchanged(tmp_path: Path) -> None:
    data = page_data(run_page(read_run(write_run(tmp_path / "a"))))
    leaf = data["trees"][0]["segments"][3]
    assert "".join(token["text"] for token in leaf["tokens"]) == LEAF
    assert data["worst"][0]["text"] == f"so {LEAF}"


def test_json_in_a_page_has_no_markup_and_no_infinity() -> None:
    text = script_json({"a": "</script>&\u2028", "b": float("inf"), "c": [float("nan"), 0.1234567]})
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"a": "</script>&\u2028", "b": None, "c": [None, 0.123457]}


def test_a_page_is_written_in_ascii(tmp_path: Path) -> None:
    write_page(tmp_path / "x.html", "<p>\u00e9 \U0001f600 \ud800</p>")
    assert (tmp_path / "x.html").read_bytes() == b"<p>&#233; &#128512; &#55296;</p>"
    with pytest.raises(ValueError, match="is not a folder; make it"):
        write_page(tmp_path / "no" / "x.html", "")


def test_the_best_and_the_worst_are_ordered_by_score_and_come_from_different_trees(
    tmp_path: Path,
) -> None:
    folder = write_run(tmp_path / "a")
    write_rollouts(folder, 4, scores=[0.5, None])
    write_rollouts(folder, 6, scores=[-1.0, 2.0])
    best, worst = extremes(read_run(folder).steps)
    assert [(r["step"], r["score"]) for r in best] == [(6, 2.0), (0, 1.0), (4, 0.5)]
    assert [(r["step"], r["score"]) for r in worst] == [(6, -1.0), (0, 0.0), (4, 0.5)]


def test_many_trees_are_thinned_evenly(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    for step in range(100):
        write_rollouts(folder, step)
    steps = [tree["step"] for tree in shown_trees(read_run(folder).steps)]
    assert (len(steps), steps[0], steps[-1]) == (MAX_TREES, 0, 99)
    assert max(b - a for a, b in itertools.pairwise(steps)) == 3


def test_trees_without_texts_are_shown_by_token_ids(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    path = folder / "rollouts" / "step_000000.jsonl"
    values = json.loads(path.read_text())
    for key in ("texts", "token_texts", "scores", "advantages"):
        del values[key]
    path.write_text(json.dumps(values) + "\n")
    data = page_data(run_page(read_run(folder)))
    assert data["trees"][0]["segments"][1]["tokens"][0]["text"] is None
    assert data["trees"][0]["segments"][3]["score"] is None
    assert data["best"] == []


def test_an_interrupted_run_gives_a_page(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "a", steps=3, is_finished=False))
    text = run_page(run)
    assert "<b>interrupted</b>" in text
    newest = {figure.name: (figure.text, figure.detail) for figure in figures(run)}
    assert newest["Avg@1 (greedy)"] == ("0.500", "at step 3")
    assert newest["Avg@k"] == ("0.400", "at step 3")
    assert newest["maj@k"] == ("-", "")


def test_figures_sum_up_a_run(tmp_path: Path) -> None:
    found = {f.name: f.text for f in figures(read_run(write_run(tmp_path / "a")))}
    assert found["Avg@k"] == "0.750"
    assert found["training reward"] == "+0.400"  # mean of 0.1, 0.3, 0.5, 0.7
    assert found["clipped tokens (TCR)"] == "0.00450"
    assert found["sampled tokens"] == "400"
    assert found["training time"] == "16.0 s"
    assert found["RUR"] == "-"


def test_clipping_is_summed_up_by_bucket(tmp_path: Path) -> None:
    assert clip_means([read_run(write_run(tmp_path / "a"))]) == [
        ("below 0.01", [("0.50000", "-")]),
        ("0.1 to 0.64", [("0.25000", "-")]),
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.14, "3.1 s"), (185.2, "3:05 min"), (7620.0, "2:07 h")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_comparison_shows_only_settings_that_differ(tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path / name, seed=i)) for i, name in enumerate("ab")]
    assert differing_settings(runs) == {"trainer.seed": ["0", "1"]}
    text = comparison_page(runs)
    assert "<th>a</th><th>b</th>" in text
    assert len(page_data(text)["axes"]) == 2


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folders = [tmp_path / "x" / "0", tmp_path / "y" / "0"]
    assert run_names(folders) == ["x/0", "y/0"]
    assert run_names([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]


def test_a_comparison_needs_two_different_runs(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    with pytest.raises(ValueError, match="name at least two"):
        write_comparison([folder], tmp_path / "x.html")
    with pytest.raises(ValueError, match="is named twice"):
        write_comparison([folder, folder / "rollouts" / ".."], tmp_path / "x.html")


def test_the_commands_write_pages_and_refuse_other_folders_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    assert cli.main(["report", str(first)]) == 0
    assert capsys.readouterr().out == f"report: {first}/report.html\n"
    out = tmp_path / "both.html"
    assert cli.main(["compare", str(first), str(second), "--out", str(out)]) == 0
    assert out.read_text().startswith("<!DOCTYPE html>")
    assert cli.main(["compare", str(first), str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path} is no run: it holds neither")
    assert error.count("\n") == 1


def test_a_report_can_be_written_elsewhere(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    assert write_report(folder, tmp_path / "page.html") == tmp_path / "page.html"
    assert not (folder / "report.html").exists()
