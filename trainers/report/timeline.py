"""Steps as tokens and seconds, and totals of a run, also when several steps make one row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Row = Mapping[str, float]
Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What had been spent at each logged optimizer step, starting with nothing at step 0."""

    steps: tuple[float, ...]
    tokens: tuple[float, ...]
    """Sampled tokens so far, each once."""
    seconds: tuple[float, ...]
    """Seconds of optimizer steps so far, rollouts included, evaluations and start-up not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Where the seconds of all steps went."""

    rollout_s: float
    reward_s: float
    other_s: float
    """Forward, backward, optimizer and everything else."""


def points(rows: Sequence[Row], key: str) -> Points:
    """(step, value) of a metric, oldest first."""
    return [(row["step"], row[key]) for row in rows if key in row]


def timeline(rows: Sequence[Row], settings: Mapping[str, object]) -> Timeline:
    """Add up tokens and seconds over the logged steps.

    A row of `trainer.logging_steps` N > 1 holds means over N steps; it counts N steps, and as many
    rollout batches as belong to them.
    """
    spent = [(0.0, 0.0, 0.0)]
    for row, num_steps, num_rollouts in _weighted(rows, settings):
        _, tokens, seconds = spent[-1]
        tokens += row.get("rollout/sampled_tokens", 0.0) * num_rollouts
        seconds += row.get("step_time", 0.0) * num_steps
        spent.append((row["step"], tokens, seconds))
    steps, tokens_so_far, seconds_so_far = zip(*spent, strict=True)
    return Timeline(steps=steps, tokens=tokens_so_far, seconds=seconds_so_far)


def spending(rows: Sequence[Row], settings: Mapping[str, object]) -> Spending:
    """Seconds of all steps by phase."""
    weighted = _weighted(rows, settings)
    rollout_s = sum(row.get("time/rollout_s", 0.0) * num for row, _, num in weighted)
    reward_s = sum(row.get("time/reward_s", 0.0) * num for row, _, num in weighted)
    total_s = sum(row.get("step_time", 0.0) * num for row, num, _ in weighted)
    return Spending(
        rollout_s=rollout_s, reward_s=reward_s, other_s=max(0.0, total_s - rollout_s - reward_s)
    )


def _weighted(
    rows: Sequence[Row], settings: Mapping[str, object]
) -> list[tuple[Row, float, float]]:
    """Rows of optimizer steps, each with the steps and the rollout batches that it stands for."""
    per_rollout = _updates_per_rollout(settings)
    weighted, before = [], 0.0
    for row in rows:
        if "loss" not in row:
            continue
        num_steps = row["step"] - before
        weighted.append((row, num_steps, max(1.0, round(num_steps / per_rollout))))
        before = row["step"]
    return weighted


def _updates_per_rollout(settings: Mapping[str, object]) -> float:
    accumulation = _count(settings, "gradient_accumulation_steps", 1)
    generations = _count(settings, "steps_per_generation", accumulation)
    return generations * _count(settings, "num_iterations", 1) / accumulation


def _count(settings: Mapping[str, object], name: str, default: int) -> int:
    value = settings.get(f"trainer.{name}")
    return value if isinstance(value, int) and value > 0 else default
