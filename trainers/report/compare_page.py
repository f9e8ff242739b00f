"""Several runs on one page: `ramify compare <run> <run> ...`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from trainers.report import charts
from trainers.report.collect import Run, read_run
from trainers.report.figures import CLIP_HEAD, Figure, clip_means, figures
from trainers.report.page import (
    chart_section,
    interval_plot,
    navigation,
    notes_box,
    page,
    rest_section,
    section,
    shown,
    table,
    write_page,
)
from trainers.report.panels import CLIPPING

FILE = "compare.html"
_ALWAYS_DIFFERENT = ("logging.output_dir", "logging.run_name")
_ABSENT = "(not set)"


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """Write the page of several runs.

    Raises:
        ValueError: fewer than two, one of them twice or no run, or the page cannot be written.
    """
    _check_different(folders)
    write_page(out, comparison_page([read_run(folder) for folder in folders]))
    return out


def comparison_page(runs: Sequence[Run]) -> str:
    """The page as text."""
    names = run_names([run.folder for run in runs])
    groups = charts.compared_groups(runs)
    sections = [
        ("Final figures", _figures(runs, names)),
        ("Differing settings", _settings(runs, names)),
    ]
    sections += [(group["name"], _charts(group, runs, names)) for group in groups]
    sections.append(("All metrics", rest_section()))
    return page(
        title="compared runs - ramify",
        header=_header(runs, names, [name for name, _ in sections]),
        body="".join(content for _, content in sections),
        data={
            "runs": names,
            "axes": charts.axes(runs),
            "groups": groups,
            "rest": charts.remaining(runs),
        },
    )


def run_names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell the runs apart.

    Example: runs/a/0 and runs/b/0 are a/0 and b/0.
    """
    parts = [folder.resolve().parts for folder in folders]
    longest = max(len(part) for part in parts)
    for length in range(1, longest + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def differing_settings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Settings that are not the same in all runs, each with one text per run."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    texts = {
        key: [shown(run.settings[key]) if key in run.settings else _ABSENT for run in runs]
        for key in keys
        if key not in _ALWAYS_DIFFERENT
    }
    return {key: values for key, values in texts.items() if len(set(values)) > 1}


def _check_different(folders: Sequence[Path]) -> None:
    if len(folders) < 2:
        raise ValueError(f"{len(folders)} run to compare; name at least two run folders")
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise ValueError(f"{folder} is named twice; name different run folders")
        seen.add(folder.resolve())


def _header(runs: Sequence[Run], names: Sequence[str], sections: Sequence[str]) -> str:
    chips = "".join(f'<b data-run="{i}">{escape(name)}</b>' for i, name in enumerate(names))
    notes = [f"{name}: {note}" for run, name in zip(runs, names, strict=True) for note in run.notes]
    return (
        f"<h1>{len(runs)} runs compared</h1>"
        f'<p class="badges runs">{chips}</p>{notes_box(notes)}{navigation(sections)}'
    )


def _figures(runs: Sequence[Run], names: Sequence[str]) -> str:
    columns = [figures(run) for run in runs]
    rows = [[row[0].name, *(_text(figure) for figure in row)] for row in zip(*columns, strict=True)]
    shown_figures = table(["figure", *names], rows, "figures")
    content = f'<div class="beside">{_intervals(runs, names)}{shown_figures}</div>'
    intro = "Held-out figures after training with 95 % intervals, and what the training cost."
    return section("Final figures", content, intro)


def _charts(group: Mapping[str, Any], runs: Sequence[Run], names: Sequence[str]) -> str:
    """The charts; below those of clipping the means by bucket, upwards / downwards."""
    means = clip_means(runs) if group["name"] == CLIPPING else []
    rows = [[name, *(" / ".join(pair) for pair in values)] for name, values in means]
    below = table([f"{CLIP_HEAD[0]} (upwards / downwards)", *names], rows, "figures")
    return chart_section(group["name"], group["intro"], below if means else "")


def _text(figure: Figure) -> str:
    return f"{figure.text}\n{figure.detail}" if figure.detail else figure.text


def _intervals(runs: Sequence[Run], names: Sequence[str]) -> str:
    """The held-out figures as dots with whiskers, for the runs that have them and share k."""
    after = [
        (name, result)
        for run, name in zip(runs, names, strict=True)
        for result in run.evaluations
        if result.moment == "after"
    ]
    if not after or len({tuple(result.figures) for _, result in after}) > 1:
        return ""
    labels, results = zip(*after, strict=True)
    return interval_plot(list(results[0].figures), labels, results)


def _settings(runs: Sequence[Run], names: Sequence[str]) -> str:
    different = differing_settings(runs)
    if not different:
        return section("Differing settings", "<p>All settings are the same.</p>")
    rows = [[key, *values] for key, values in different.items()]
    return section("Differing settings", table(["setting", *names], rows, "settings"))
