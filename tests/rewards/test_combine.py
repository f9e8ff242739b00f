from __future__ import annotations

import math

import pytest

from rewards.base import Score, Verdict
from rewards.combine import FailureMonitor, RewardFailureError, means, metric_sums, weighted_sum


def score(value: float | None, verdict: Verdict = Verdict.CORRECT, detail: str = "") -> Score:
    return Score(value=value, verdict=verdict, detail=detail, seconds=0.5)


def test_weighted_sum_leaves_out_what_could_not_be_judged() -> None:
    scores = {
        "math": [score(1.0), score(None), score(0.0), score(None)],
        "style": [score(0.5), score(0.5), score(math.nan), score(None)],
    }
    assert weighted_sum(scores, {"math": 1.0, "style": 0.2}) == [1.1, 0.1, 0.0, None]


def test_weights_and_scores_must_have_the_same_names_and_lengths() -> None:
    with pytest.raises(ValueError, match="weights are given for"):
        weighted_sum({"a": []}, {"b": 1.0})
    with pytest.raises(ValueError, match="different numbers"):
        weighted_sum({"a": [score(1.0)], "b": []}, {"a": 1.0, "b": 1.0})


def test_metrics_are_sums_that_ranks_can_add() -> None:
    column = [score(1.0), score(0.0, Verdict.WRONG), score(None, Verdict.BAD_REFERENCE)]
    sums = metric_sums({"math": column})
    assert sums["reward/math_mean"] == (1.0, 2)
    assert sums["reward/math_correct_frac"] == (1, 3)
    assert sums["reward/bad_reference_frac"] == (1, 3)
    values = means(sums)
    assert values["reward/math_mean"] == 0.5 and values["reward/timeout_frac"] == 0.0
    assert values["reward/judge_s"] == 0.5


def test_metrics_of_an_empty_batch_are_left_out() -> None:
    assert means(metric_sums({"math": []})) == {}


def test_the_run_stops_when_a_fifth_of_200_judgements_failed() -> None:
    monitor = FailureMonitor()
    good = [score(1.0)] * 160
    bad = [score(0.0, Verdict.TIMEOUT, "limit:3s")] * 30 + [score(0.0, Verdict.CRASHED)] * 9
    monitor.observe("math", good + bad)
    monitor.observe("math", [score(0.0, Verdict.CRASHED)])
    with pytest.raises(
        RewardFailureError, match=r"20%.*timeout: limit:3s \(30x\); crashed \(11x\)"
    ):
        monitor.observe("math", [score(0.0, Verdict.CRASHED)])


def test_wrong_answers_are_no_failures_and_rewards_are_counted_apart() -> None:
    monitor = FailureMonitor(limit_frac=0.0, min_samples=1)
    verdicts = (Verdict.WRONG, Verdict.NO_ANSWER, Verdict.REJECTED, Verdict.UNPARSEABLE)
    monitor.observe("math", [score(0.0, verdict) for verdict in verdicts])
    with pytest.raises(RewardFailureError, match="style"):
        monitor.observe("style", [score(None, Verdict.BAD_REFERENCE)])


def test_old_judgements_leave_the_window() -> None:
    monitor = FailureMonitor(limit_frac=0.5, min_samples=4, window=4)
    monitor.observe("math", [score(0.0, Verdict.TIMEOUT)] * 2 + [score(1.0)] * 2)
    monitor.observe("math", [score(1.0)] * 2 + [score(0.0, Verdict.TIMEOUT)] * 2)


def test_bad_limits_are_refused() -> None:
    with pytest.raises(ValueError, match="limit_frac=2"):
        FailureMonitor(limit_frac=2)
