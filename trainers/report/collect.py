"""A run folder as data. Whatever an interrupted run has not written yet is simply absent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollout.dump import read_samples
from rollout.tree_sample import TreeSample
from trainers.monitoring.metrics_lines import FILE, read_metrics
from trainers.recipe_format import RecipeError, parse

RECIPE = "recipe.yaml"
EVALUATION = "evaluation.json"
FINAL = "final"
ROLLOUTS = "rollouts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """One entry of evaluation.json."""

    moment: str
    """before or after."""
    num_prompts: int
    k: int
    figures: Mapping[str, Interval]
    """Avg@1, Avg@k, pass@k and maj@k by their names."""
    mean_length_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSamples:
    """The trees that were recorded of one rollout batch."""

    step: int
    samples: tuple[TreeSample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run folder holds."""

    folder: Path
    about: str
    """Header of the recipe; empty without one."""
    settings: Mapping[str, object]
    """Leaves of the resolved recipe by dotted key, for example `trainer.seed`."""
    rows: tuple[Mapping[str, float], ...]
    """Rows of metrics.jsonl, oldest first."""
    evaluations: tuple[Evaluated, ...]
    steps: tuple[StepSamples, ...]
    """Recorded rollout batches, oldest first."""
    is_finished: bool
    notes: tuple[str, ...]
    """What could not be read, for the reader of the page."""

    @property
    def last_step(self) -> int:
        """The newest optimizer step in the metrics; 0 before the first."""
        return int(max((row["step"] for row in self.rows), default=0))


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        ValueError: it is none.
    """
    _check_is_run(folder)
    notes: list[str] = []
    about, settings = _recipe(folder / RECIPE, notes)
    rows = _rows(folder / FILE, notes)
    return Run(
        folder=folder,
        about=about,
        settings=settings,
        rows=tuple(rows),
        evaluations=tuple(_evaluations(folder / EVALUATION, notes)),
        steps=tuple(_steps(folder / ROLLOUTS, notes)),
        is_finished=(folder / FINAL).is_dir(),
        notes=tuple(notes),
    )


def _check_is_run(folder: Path) -> None:
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; name the output folder of a training run")
    if (folder / FILE).is_file() or (folder / RECIPE).is_file():
        return
    hint = "name the output folder of a training run"
    if (folder.parent / FILE).is_file():
        hint = f"the run is the folder above, {folder.parent}"
    raise ValueError(f"{folder} is no run: it holds neither {FILE} nor {RECIPE}; {hint}")


def _recipe(path: Path, notes: list[str]) -> tuple[str, dict[str, object]]:
    if not path.is_file():
        notes.append(f"There is no {RECIPE}: settings are not shown.")
        return "", {}
    try:
        about, mapping = parse(path.read_text(encoding="utf-8"), str(path))
    except (RecipeError, UnicodeDecodeError) as error:
        notes.append(f"{RECIPE} cannot be read: {error}")
        return "", {}
    return about, dict(_leaves(mapping, ""))


def _leaves(value: object, where: str) -> Iterator[tuple[str, object]]:
    """Dotted keys and values of everything below `value`; an empty container is a value."""
    if isinstance(value, dict) and value:
        parts = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        parts = [(str(number), item) for number, item in enumerate(value)]
    else:
        yield where, value
        return
    for key, item in parts:
        yield from _leaves(item, f"{where}.{key}" if where else key)


def _rows(path: Path, notes: list[str]) -> list[dict[str, float]]:
    rows = [row for row in read_metrics(path) if isinstance(row, dict) and "step" in row]
    if not rows:
        notes.append("There are no metrics yet: nothing was logged before the run ended.")
    return rows


def _evaluations(path: Path, notes: list[str]) -> list[Evaluated]:
    if not path.is_file():
        return []
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return [_evaluated(moment, values) for moment, values in known.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        notes.append(f"{EVALUATION} cannot be read: {error!r}")
        return []


def _evaluated(moment: str, values: Mapping[str, Any]) -> Evaluated:  # parsed JSON
    k = int(values["k"])
    names = {"avg_at_1": "Avg@1 (greedy)", "avg_at_k": f"Avg@{k}"}
    names |= {"pass_at_k": f"pass@{k}", "maj_at_k": f"maj@{k}"}
    return Evaluated(
        moment=moment,
        num_prompts=int(values["num_prompts"]),
        k=k,
        figures={
            name: Interval(
                **{bound: float(values[key][bound]) for bound in ("value", "low", "high")}
            )
            for key, name in names.items()
        },
        mean_length_tokens=float(values["mean_length_tokens"]),
    )


def _steps(folder: Path, notes: list[str]) -> Iterator[StepSamples]:
    for path in sorted(folder.glob("step_*.jsonl")):
        number = path.stem.removeprefix("step_")
        if not number.isdigit():
            continue
        samples = tuple(_samples(path, notes))
        if samples:
            yield StepSamples(step=int(number), samples=samples)


def _samples(path: Path, notes: list[str]) -> Iterator[TreeSample]:
    """The whole lines of a file; what a kill cut off is noted."""
    try:
        with path.open(encoding="utf-8") as file:
            yield from read_samples(file)
    except ValueError as error:
        where = str(error).partition(" is not")[0]
        notes.append(f"{ROLLOUTS}/{path.name} is shown in part: it breaks off in {where}.")
