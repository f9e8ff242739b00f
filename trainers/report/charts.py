"""Charts as plain values for the script of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainers.report.collect import Run
from trainers.report.panels import GROUPS, Group, Panel, matching
from trainers.report.timeline import Points, points, timeline

SMOOTHED = 5
Values = dict[str, Any]  # what JSON can hold


def groups(run: Run) -> list[Values]:
    """All charts of one run, one line per metric; panels without values are left out."""
    known = logged_keys([run])
    shown = [
        _group(group, [_of_run(panel, run, known) for panel in group.panels]) for group in GROUPS
    ]
    return [group for group in shown if group["charts"]]


def compared_groups(runs: Sequence[Run]) -> list[Values]:
    """Charts of several runs on the same axes: one chart per metric, one line per run."""
    known = logged_keys(runs)
    shown = [
        _group(group, [chart for panel in group.panels for chart in _of_runs(panel, runs, known)])
        for group in GROUPS
    ]
    return [group for group in shown if group["charts"]]


def remaining(runs: Sequence[Run]) -> list[Values]:
    """A small chart of every logged metric that no panel draws."""
    known = logged_keys(runs)
    drawn = {
        key for group in GROUPS for panel in group.panels for key in matching(panel.keys, known)
    }
    drawn |= {"step", "epoch"}
    rest = [Panel(title=key, keys=(key,)) for key in sorted(known - drawn)]
    return [chart for panel in rest for chart in _of_runs(panel, runs, known)]


def axes(runs: Sequence[Run]) -> list[Values]:
    """For each run, tokens and seconds at its logged steps."""
    return [
        {"steps": line.steps, "tokens": line.tokens, "seconds": line.seconds}
        for line in (timeline(run.rows, run.settings) for run in runs)
    ]


def logged_keys(runs: Sequence[Run]) -> set[str]:
    """Every metric that one of the runs logged."""
    return {key for run in runs for row in run.rows for key in row}


def _group(group: Group, charts: Sequence[Values | None]) -> Values:
    return {
        "name": group.name,
        "intro": group.intro,
        "charts": [chart for chart in charts if chart is not None],
    }


def _of_run(panel: Panel, run: Run, known: set[str]) -> Values | None:
    keys = matching(panel.keys, known)
    names = short_names(keys)
    series = [
        line
        for number, key in enumerate(keys)
        for line in _lines(points(run.rows, key), names[key], number, 0, panel)
    ]
    return _chart(panel, panel.title, series) if series else None


def _of_runs(panel: Panel, runs: Sequence[Run], known: set[str]) -> list[Values]:
    charts = []
    keys = matching(panel.keys, known)
    names = short_names(keys)
    for key in keys:
        title = panel.title if len(keys) == 1 else f"{panel.title}: {names[key]}"
        series = [
            line
            for number, run in enumerate(runs)
            for line in _lines(points(run.rows, key), None, number, number, panel)
        ]
        charts.append(_chart(panel, title, series) | {"isStacked": False})
    return charts


def _lines(values: Points, name: str | None, color: int, run: int, panel: Panel) -> list[Values]:
    """The line of a metric, and before it the raw values where the line is a mean."""
    if not values:
        return []
    line = {"name": name, "color": color, "run": run, "points": values, "isFaint": False}
    if not panel.is_smoothed or len(values) < SMOOTHED:
        return [line]
    return [line | {"isFaint": True}, line | {"points": running_mean(values)}]


def _chart(panel: Panel, title: str, series: list[Values]) -> Values:
    return {
        "title": title,
        "unit": panel.unit,
        "isLog": panel.is_log,
        "isStacked": panel.is_stacked,
        "note": f"bold: mean of {SMOOTHED}" if any(line["isFaint"] for line in series) else "",
        "series": series,
    }


def short_names(keys: Sequence[str]) -> Mapping[str, str]:
    """What tells the keys of one chart apart: the key without the beginning and end they share.

    Example: rollout/depth_mean and rollout/depth_max are mean and max.
    """
    if len(keys) < 2:
        return {key: key for key in keys}
    first = _shared(keys)
    last = _shared([key[first:][::-1] for key in keys])
    cut = {key: key[first : len(key) - last] for key in keys}
    return cut if all(cut.values()) else {key: key.rpartition("/")[2] for key in keys}


def _shared(texts: Sequence[str]) -> int:
    """Length of the longest common beginning that ends at a separator."""
    low, high = min(texts), max(texts)
    length = next((i for i, char in enumerate(low) if char != high[i]), len(low))
    return max(low.rfind(mark, 0, length) for mark in "/_") + 1


def running_mean(values: Points) -> Points:
    """Mean of the last five values, or fewer at the beginning."""
    return [
        (step, sum(value for _, value in window) / len(window))
        for number, (step, _) in enumerate(values)
        for window in [values[max(0, number - SMOOTHED + 1) : number + 1]]
    ]
