from __future__ import annotations

import pytest

from rollout.config import BranchPolicyEntry, RolloutConfig
from trainers.evaluate import PromptOutcome, flat_law, mean_estimate, share, summarise


def outcome(greedy: bool, correct: str, answers: str) -> PromptOutcome:
    return PromptOutcome(
        greedy_correct=greedy,
        correct=tuple(c == "1" for c in correct),
        answers=tuple(answers),
        num_tokens=4 * len(correct),
    )


def test_figures_of_two_prompts_by_hand() -> None:
    # prompt 1: answers 7 7 3 with 7 right; prompt 2: 5 9 9 with 5 right, so the majority is wrong
    result = summarise([outcome(True, "110", "773"), outcome(False, "100", "599")])
    assert result.avg_at_1.value == 0.5
    assert result.avg_at_k.value == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert result.pass_at_k.value == 1.0
    assert result.maj_at_k.value == 0.5
    assert result.mean_length_tokens == 4.0
    assert result.k == 3


def test_the_first_seen_answer_wins_a_tie() -> None:
    assert summarise([outcome(True, "10", "12")]).maj_at_k.value == 1.0
    assert summarise([outcome(True, "01", "12")]).maj_at_k.value == 0.0


def test_wilson_interval_of_three_in_ten() -> None:
    estimate = share([True] * 3 + [False] * 7)
    assert (estimate.low, estimate.high) == pytest.approx((0.107789, 0.603222), abs=1e-5)


def test_wilson_interval_of_none_starts_at_zero_and_has_width() -> None:
    estimate = share([False] * 20)
    assert estimate.low == 0.0
    assert estimate.high == pytest.approx(0.161125, abs=1e-5)


def test_mean_interval_is_the_normal_one() -> None:
    estimate = mean_estimate([0.0, 1.0, 0.0, 1.0])
    assert estimate.value == 0.5
    # sample standard deviation 0.57735, half width 1.959964 * 0.57735 / 2 = 0.56579: clamped
    assert (estimate.low, estimate.high) == (0.0, 1.0)
    wide = mean_estimate([0.25, 0.75] * 50)
    assert wide.high - 0.5 == pytest.approx(1.959964 * 0.2512594538 / 10, abs=1e-9)


def test_no_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one prompt"):
        summarise([])


def test_metric_names_carry_k() -> None:
    names = summarise([outcome(True, "1", "1")]).metrics()
    assert set(names) == {
        "eval/avg_at_1",
        "eval/pass_at_1",
        "eval/maj_at_1",
        "eval/mean_length",
    }


def test_evaluation_samples_flat_and_never_prunes() -> None:
    entry = BranchPolicyEntry(type="value", settings={"function": "m:f", "stop_below": 0.5})
    law = flat_law(RolloutConfig(width=8, branch_policy=entry), width=3, temperature=0.5)
    assert law.branching_entry.type == "even"
    assert law.is_flat
    assert (law.width, law.temperature) == (3, 0.5)
