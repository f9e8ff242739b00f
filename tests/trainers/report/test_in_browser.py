"""The pages in a real browser: they draw, they answer to the mouse, and nothing of a model runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rollout.tree_sample import annotate
from tests.chromium import Browser, find_chromium
from tests.run_folders import EVIL, small_tree, write_rollouts, write_run
from tests.run_folders import decode as decode_chars
from trainers.report.compare_page import write_comparison
from trainers.report.page import write_page
from trainers.report.run_page import tree_page, write_report

pytestmark = pytest.mark.skipif(
    find_chromium() is None, reason="no Chromium on this machine (apt-get install chromium)"
)
CHOOSE = "(() => {{ const e = document.getElementById('{0}'); e.value = '{1}'; e.dispatchEvent(new Event('change')); }})()"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as started:
        yield started


@pytest.fixture
def report(browser: Browser, tmp_path: Path) -> Browser:
    """A browser that shows the report of a run; it must have had nothing to complain of at the end."""
    folder = write_run(tmp_path / "a")
    write_rollouts(folder, 4)
    browser.problems.clear()
    browser.open(write_report(folder))
    browser.settle()
    return browser


def count(browser: Browser, selector: str) -> int:
    return int(browser.value(f"document.querySelectorAll({selector!r}).length"))


def shown(browser: Browser, selector: str) -> bool:
    """True when an element takes space on the page."""
    return bool(browser.value(f"document.querySelector({selector!r}).getClientRects().length"))


def test_every_chart_is_drawn_without_an_error_or_a_request(report: Browser) -> None:
    assert report.problems == []
    assert count(report, "[data-group='Learning'] .chart path") >= 3
    assert count(report, ".charts:not(.small) .chart") == count(report, ".charts:not(.small) svg")
    assert count(report, ".intervals svg circle") == 8  # 4 figures, before and after


def test_nothing_that_a_model_wrote_runs(report: Browser) -> None:
    assert report.value("window.hacked") is None
    assert count(report, "img") == 0
    assert EVIL in str(report.value("document.querySelector('[data-segment=\"3\"]').textContent"))
    assert EVIL in str(report.value("document.getElementById('extremes').textContent"))


def test_clicking_a_segment_closes_and_opens_what_is_below_it(report: Browser) -> None:
    line = "[data-segment='1']"
    assert shown(report, "[data-segment='2']")
    report.click(line)
    assert not shown(report, "[data-segment='2']")
    report.click(line)
    assert shown(report, "[data-segment='2']")


def test_all_segments_can_be_closed_and_a_bar_opens_its_way(report: Browser) -> None:
    report.click("#close-all")
    assert not shown(report, "[data-segment='2']")
    report.click("[data-bar='2']")
    assert shown(report, "[data-segment='2']")
    report.click("#open-all")
    assert count(report, ".segment.closed") == 0


def test_tokens_are_coloured_by_what_is_chosen(report: Browser) -> None:
    def colors() -> list[str]:
        tokens = "[...document.querySelectorAll('[data-segment=\"3\"] .token')].slice(0, 9)"
        found = report.value(f"{tokens}.map((e) => e.style.background)")
        assert isinstance(found, list)
        return found

    entropy = colors()
    assert len(set(entropy)) == 9  # it grows from token to token
    report.click("[data-mode='logprob']")
    assert set(colors()).isdisjoint(entropy)
    report.click("[data-mode='advantage']")
    assert len(set(colors())) == 1
    report.click("[data-mode='none']")
    assert set(colors()) == {""}


def test_a_token_and_a_curve_show_their_numbers(report: Browser) -> None:
    report.point("[data-segment='1'] .token:nth-child(2)")
    tip = str(report.value("document.getElementById('tip').textContent"))
    assert '"o"' in tip
    assert "log-prob -0.2500 nats, probability 0.7788" in tip
    assert "entropy 0.5 nats" in tip
    report.point("[data-group='Learning'] .chart svg")
    tip = str(report.value("document.getElementById('tip').textContent"))
    assert tip.startswith("optimizer step ")
    assert "avg_at_1" in tip


def test_another_tree_and_another_axis_can_be_chosen(report: Browser) -> None:
    report.value(CHOOSE.format("tree-choice", 0))
    assert report.value("page.tree.tree.step") == 0
    report.value(CHOOSE.format("axis", "seconds"))
    report.settle()
    text = str(report.value("document.querySelector('.chart svg').textContent"))
    assert "training seconds" in text
    assert "16" in text or "15" in text  # 8 steps of 2 s
    assert report.problems == []


def test_a_name_in_the_legend_hides_its_line(report: Browser) -> None:
    paths = "[data-group='Clipping'] .chart svg path"
    before = count(report, paths)
    report.click("[data-group='Clipping'] .legend span")
    assert count(report, paths) == before - 1


def test_the_comparison_draws_a_line_per_run(browser: Browser, tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name, seed=i) for i, name in enumerate("abc")]
    browser.problems.clear()
    browser.open(write_comparison(folders, tmp_path / "x.html"))
    browser.settle()
    first = "document.querySelector('[data-group=\"Learning\"] .chart')"
    assert browser.value(f"{first}.querySelectorAll('path').length") == 3
    assert browser.value(f"{first}.querySelector('.legend').textContent") == "abc"
    assert browser.problems == []


def test_the_page_of_one_tree_stands_alone(browser: Browser, tmp_path: Path) -> None:
    sample = annotate(small_tree(), decode_chars, scores=[1.0, None], advantages=[0.5, -0.5])
    write_page(tmp_path / "tree.html", tree_page(sample, 7))
    browser.problems.clear()
    browser.open(tmp_path / "tree.html")
    browser.settle()
    assert count(browser, ".overview rect.bar") == 4
    assert browser.problems == []


def test_the_browser_would_tell_of_an_error_and_of_a_request(
    browser: Browser, tmp_path: Path
) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<script>fetch('http://127.0.0.1:9/x').catch(() => 0); nothing.here</script>")
    browser.problems.clear()
    browser.open(page)
    browser.settle()
    found = " ".join(browser.problems)
    assert "request: http://127.0.0.1:9/x" in found
    assert "nothing is not defined" in found
