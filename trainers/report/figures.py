"""The figures that sum up a run: what it ended at and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainers.report.charts import SMOOTHED
from trainers.report.collect import Evaluated, Interval, Run
from trainers.report.panels import BUCKETS
from trainers.report.timeline import points, timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A named number of a run, ready to be shown."""

    name: str
    text: str
    """The number; a dash when the run did not get there."""
    detail: str = ""
    """Interval, or how the number came about."""


NONE = "-"


def figures(run: Run) -> list[Figure]:
    """The same figures for every run, in the same order, so that runs can stand in a table."""
    spent = timeline(run.rows, run.settings)
    return [
        Figure(name="optimizer steps", text=f"{run.last_step:,}", detail=_state(run)),
        *_evaluation(run),
        _last(run, "training reward", "reward", "{:+.3f}"),
        _mean(run, "RUR", "reward/rur", "{:.3f}"),
        _mean(run, "clipped tokens (TCR)", "clip/tcr", "{:.5f}"),
        _last(run, "entropy, nats", "policy/entropy", "{:.3f}"),
        _last(run, "response tokens", "rollout/response_tokens_mean", "{:.1f}"),
        _mean(run, "saved by sharing", "rollout/sharing_ratio", "{:.1%}"),
        _largest(run, "engine mismatch, nats", "policy/engine_mismatch_max", "{:.1e}"),
        Figure(name="sampled tokens", text=f"{spent.tokens[-1]:,.0f}", detail="in training"),
        Figure(name="training time", text=clock(spent.seconds[-1]), detail="without evaluations"),
    ]


def _state(run: Run) -> str:
    planned = run.settings.get("trainer.max_steps")
    return "finished" if run.is_finished else f"interrupted; planned {planned or 'more'}"


def _evaluation(run: Run) -> list[Figure]:
    """Held-out figures after training; of an interrupted run the newest one that was logged."""
    by_moment = {result.moment: result for result in run.evaluations}
    result = by_moment.get("after")
    if result is not None:
        return [
            Figure(name=name, text=f"{value.value:.3f}", detail=bounds(value))
            for name, value in _named(result).items()
        ]
    return [_newest(run, name, prefix) for name, prefix in _EVALUATED.items()]


_EVALUATED: Mapping[str, str] = {
    "Avg@1 (greedy)": "eval/avg_at_1",
    "Avg@k": "eval/avg_at_",
    "pass@k": "eval/pass_at_",
    "maj@k": "eval/maj_at_",
}


def _named(result: Evaluated) -> dict[str, Interval]:
    """Its figures under names without k, so that runs with another k share a row."""
    return dict(zip(_EVALUATED, result.figures.values(), strict=True))


def _newest(run: Run, name: str, prefix: str) -> Figure:
    for row in reversed(run.rows):
        found = [
            key for key in row if key == prefix or (prefix[-1] == "_" and key.startswith(prefix))
        ]
        wanted = [key for key in found if prefix != "eval/avg_at_" or key != "eval/avg_at_1"]
        if wanted:
            return Figure(name=name, text=f"{row[wanted[0]]:.3f}", detail=f"at step {row['step']}")
    return Figure(name=name, text=NONE)


def bounds(value: Interval) -> str:
    """The 95 % interval as text."""
    return f"{value.low:.3f} to {value.high:.3f}"


def _last(run: Run, name: str, key: str, form: str) -> Figure:
    values = _values(run, key)[-SMOOTHED:]
    return _figure(name, form, _average(values), f"mean of the last {len(values)}")


def _mean(run: Run, name: str, key: str, form: str) -> Figure:
    return _figure(name, form, _average(_values(run, key)), "mean of the run")


def _largest(run: Run, name: str, key: str, form: str) -> Figure:
    return _figure(name, form, max(_values(run, key), default=None), "largest of the run")


def _figure(name: str, form: str, value: float | None, detail: str) -> Figure:
    if value is None:
        return Figure(name=name, text=NONE)
    return Figure(name=name, text=form.format(value), detail=detail)


def _values(run: Run, key: str) -> list[float]:
    return [value for _, value in points(run.rows, key)]


def _average(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


CLIP_HEAD = ("clipped tokens by old probability, mean of the steps", "upwards", "downwards")


def clip_means(runs: Sequence[Run]) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each bucket of old probability and each run, the mean share clipped upwards and downwards."""
    found = []
    for bucket in BUCKETS:
        pairs = [(_share(run, "high", bucket), _share(run, "low", bucket)) for run in runs]
        if any(pair != (NONE, NONE) for pair in pairs):
            found.append((_bucket_name(bucket), pairs))
    return found


def _bucket_name(bucket: str) -> str:
    """q_0.01_0.1 as 0.01 to 0.1, q_below_0.01 as below 0.01."""
    low, high = bucket.removeprefix("q_").split("_")
    return f"{low} {high}" if low.isalpha() else f"{low} to {high}"


def _share(run: Run, side: str, bucket: str) -> str:
    value = _average(_values(run, f"clip/{side}_frac/{bucket}"))
    return NONE if value is None else f"{value:.5f}"


def clock(seconds: float) -> str:
    """Seconds as 42.1 s, 3:05 min or 2:07 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"
