"""The page of one run: `ramify report <run>`; and the page of one tree, for trackers."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from rollout.tree_sample import TreeSample
from trainers.report import charts
from trainers.report.collect import Evaluated, Run, read_run
from trainers.report.figures import CLIP_HEAD, Figure, bounds, clip_means, clock, figures
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
from trainers.report.rollouts import extremes, shown_trees, tree_values
from trainers.report.timeline import spending

FILE = "report.html"
_TILES = (
    "Avg@1 (greedy)",
    "Avg@k",
    "training reward",
    "RUR",
    "clipped tokens (TCR)",
    "saved by sharing",
    "sampled tokens",
    "training time",
)


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a run and return where it is; without `out` into the run folder.

    Raises:
        ValueError: the folder is no run, or the page cannot be written there.
    """
    run = read_run(folder)
    path = out or folder / FILE
    write_page(path, run_page(run))
    return path


def run_page(run: Run) -> str:
    """The page as text."""
    groups = charts.groups(run)
    best, worst = extremes(run.steps)
    trees = shown_trees(run.steps)
    sections = [("Evaluation", _evaluation(run.evaluations))]
    sections += [(group["name"], _charts(group, run)) for group in groups]
    sections += [("Best and worst", _extremes_mount())] if best else []
    sections += [("Rollout tree", _tree_mount(run, len(trees)))] if trees else []
    sections += [("Settings", _settings(run)), ("All metrics", rest_section())]
    return page(
        title=f"{run.folder.resolve().name} - ramify",
        header=_header(run, [name for name, _ in sections]),
        body="".join(content for _, content in sections),
        data={
            "runs": [run.folder.resolve().name],
            "axes": charts.axes([run]),
            "groups": groups,
            "rest": charts.remaining([run]),
            "best": best,
            "worst": worst,
            "trees": trees,
        },
    )


def tree_page(sample: TreeSample, step: int) -> str:
    """A page with nothing but one tree."""
    name = f"rollout tree of step {step}"
    return page(
        title=name,
        header="",
        body='<div id="tree-view"></div>',
        data={"runs": [], "axes": [], "groups": [], "trees": [tree_values(sample, step)]},
    )


def _header(run: Run, names: list[str]) -> str:
    state = "finished" if run.is_finished else "interrupted"
    facts = [run.settings.get(f"trainer.{name}") for name in ("clip", "advantage", "aggregation")]
    badges = [*(str(fact) for fact in facts if fact), f"step {run.last_step}", state]
    tiles = {figure.name: figure for figure in figures(run)}
    return (
        f"<h1>{escape(run.folder.resolve().name)}</h1>"
        f'<p class="about">{escape(run.about)}</p>'
        f'<p class="badges">{"".join(f"<b>{escape(badge)}</b>" for badge in badges)}</p>'
        f"{notes_box(run.notes)}"
        f'<div class="tiles">{"".join(_tile(tiles[name], run) for name in _TILES)}</div>'
        f"{navigation(names)}"
    )


def _tile(figure: Figure, run: Run) -> str:
    name, detail = figure.name, figure.detail
    before = next((e for e in run.evaluations if e.moment == "before"), None)
    if before is not None:
        name = name.replace("@k", f"@{before.k}")
        detail = f"before {before.figures[name].value:.3f}" if name in before.figures else detail
    return (
        f'<div class="tile"><span>{escape(name)}</span><strong>{escape(figure.text)}</strong>'
        f"<small>{escape(detail)}</small></div>"
    )


def _evaluation(evaluations: tuple[Evaluated, ...]) -> str:
    if not evaluations:
        return section("Evaluation", "<p>This run has no held-out evaluation.</p>")
    names = list(evaluations[0].figures)
    head = ["moment", "prompts", *names, "tokens of a response"]
    rows = [
        [
            result.moment,
            str(result.num_prompts),
            *(f"{x.value:.3f}\n{bounds(x)}" for x in result.figures.values()),
            f"{result.mean_length_tokens:.1f}",
        ]
        for result in evaluations
    ]
    plot = interval_plot(names, [result.moment for result in evaluations], evaluations)
    content = f'<div class="beside">{plot}{table(head, rows, "figures")}</div>'
    intro = "Held-out prompts, before and after training; small print and whiskers: 95 % intervals."
    return section("Evaluation", content, intro)


def _extremes_mount() -> str:
    intro = (
        "The highest and the lowest scores among the recorded responses, one per tree; among equal "
        "scores those with the largest advantage, positive or negative."
    )
    return section("Best and worst", '<div id="extremes"></div>', intro)


def _tree_mount(run: Run, num_shown: int) -> str:
    recorded = sum(len(step.samples) for step in run.steps)
    intro = (
        f"{num_shown} of {recorded} recorded trees. Bars: one row per response, width in tokens; "
        "click a bar or a line to open or close it, point at a token for its numbers."
    )
    return section("Rollout tree", '<div id="tree-view"></div>', intro)


def _charts(group: Mapping[str, Any], run: Run) -> str:  # JSON-able values
    """The charts; below those of clipping the means by bucket, as the curves are mostly spikes."""
    means = clip_means([run]) if group["name"] == CLIPPING else []
    below = table(CLIP_HEAD, [[name, *values[0]] for name, values in means], "figures")
    return chart_section(group["name"], group["intro"], below if means else "")


def _settings(run: Run) -> str:
    """One small table per section of the recipe."""
    by_section: dict[str, list[list[str]]] = {}
    for key, value in run.settings.items():
        name, _, rest = key.partition(".")
        if rest:
            by_section.setdefault(name, []).append([rest, shown(value)])
    blocks = "".join(table([name, ""], rows, "settings") for name, rows in by_section.items())
    spent = spending(run.rows, run.settings)
    seconds = {"rollout": spent.rollout_s, "reward": spent.reward_s, "update": spent.other_s}
    time = ", ".join(f"{name} {clock(value)}" for name, value in seconds.items())
    intro = f"The resolved recipe. Time of all steps: {time}."
    return section("Settings", f'<div class="blocks">{blocks}</div>', intro)
