"""Stop tests: thresholds, boxes, and the order of the reasons."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.stopping import StopConfig, StopView, finish_reason, has_closed_box, is_repetitive
from rollout.tree import FinishReason

PLAIN = StopView(segment_text="b", response_text="ab", has_eos=False, num_tokens=5, num_segments=2)
BOX = replace(PLAIN, response_text=r"so \boxed{4}")
REPEATED = replace(PLAIN, segment_text="x" * 39)


def reason(view: StopView, config: StopConfig | None = None) -> FinishReason | None:
    return finish_reason(view, config or StopConfig(), max_tokens=10, max_segments=3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x" * 39, True),
        ("x" * 38, False),
        ("abcd" * 10, False),
        ("abcd" * 15, True),  # 60 characters: 29 windows in 4 phases, 8 of the first
        ("abcd" * 14 + "abc", False),  # 28 windows, 7 of each phase
        ("", False),
        ("x", False),
    ],
)
def test_repetition_thresholds(text: str, expected: bool) -> None:
    assert is_repetitive(text) is expected


@given(st.text(alphabet="ab", max_size=40), st.integers(1, 4), st.integers(2, 5))
def test_repetition_agrees_with_counting_every_substring(text: str, num: int, count: int) -> None:
    starts = range(len(text) - num + 1)
    slow = any(sum(text.startswith(text[i : i + num], j) for j in starts) >= count for i in starts)
    assert is_repetitive(text, num, count) is slow


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{4}", True),
        (r"\boxed {4}", True),
        (r"\boxed{\frac{1}{\sqrt{2^{3^{4}}}}}", True),
        (r"\boxed{\frac{1}{2}", False),
        (r"\boxed{", False),
        (r"\boxed4", False),
        (r"boxed{4}", False),
        (r"{\boxed{4}", True),
        (r"}} \boxed{4}", True),
        (r"\boxed{\boxed{4}", True),
        (r"\boxed{\{1\}", False),
        (r"\boxed{\{1\}}", True),
        (r"\boxed{\}", False),
        (r"\boxed{a\\}", True),
        ("", False),
    ],
)
def test_box_is_closed_by_its_own_brace(text: str, expected: bool) -> None:
    assert has_closed_box(text) is expected


def test_box_of_every_nesting_depth() -> None:
    for depth in range(12):
        inner = "{" * depth + "1" + "}" * depth
        assert has_closed_box(rf"\boxed{{{inner}}}")
        assert not has_closed_box(rf"\boxed{{{inner}")


def test_many_unclosed_boxes_take_one_pass() -> None:
    assert not has_closed_box(r"\boxed{" * 50_000)


def test_eos_mode_names_a_response_finished_only_together_with_eos() -> None:
    assert reason(BOX) is None
    assert reason(replace(BOX, has_eos=True)) is FinishReason.FINISHED
    assert reason(replace(PLAIN, has_eos=True)) is FinishReason.EOS


def test_first_mode_ends_at_the_box() -> None:
    config = StopConfig(box_mode="first")
    assert reason(BOX, config) is FinishReason.FINISHED
    assert reason(replace(PLAIN, has_eos=True), config) is FinishReason.EOS


def test_off_mode_ignores_boxes() -> None:
    config = StopConfig(box_mode="off")
    assert reason(BOX, config) is None
    assert reason(replace(BOX, has_eos=True), config) is FinishReason.EOS


def test_limits() -> None:
    assert reason(PLAIN) is None
    assert reason(replace(PLAIN, num_tokens=10)) is FinishReason.MAX_TOKENS
    assert reason(replace(PLAIN, num_tokens=9, num_segments=3)) is FinishReason.MAX_SEGMENTS
    assert reason(replace(PLAIN, num_tokens=10, num_segments=3)) is FinishReason.MAX_TOKENS


def test_order_of_the_reasons() -> None:
    everything = replace(BOX, segment_text="x" * 39, has_eos=True, num_tokens=10, num_segments=3)
    first = StopConfig(repetition_first=True)
    assert reason(everything, first) is FinishReason.REPETITION
    assert reason(everything) is FinishReason.FINISHED
    assert reason(replace(everything, response_text="")) is FinishReason.EOS
    assert reason(replace(everything, has_eos=False)) is FinishReason.MAX_TOKENS
    assert reason(replace(everything, has_eos=False, num_tokens=1)) is FinishReason.MAX_SEGMENTS
    assert reason(REPEATED) is FinishReason.REPETITION
    assert reason(REPEATED, StopConfig(repetition_count=0)) is None


def test_another_answer_pattern_can_be_plugged_in() -> None:
    view = replace(PLAIN, response_text="<sql>select 1</sql>")
    config = StopConfig(box_mode="first")
    found = finish_reason(
        view, config, max_tokens=10, max_segments=3, has_answer=lambda text: "</sql>" in text
    )
    assert found is FinishReason.FINISHED


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("box_mode", "last"),
        ("repetition_chars", 0),
        ("repetition_count", 1),
        ("repetition_count", -1),
    ],
)
def test_bad_values_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field}={value!r}"):
        StopConfig(**{field: value})  # type: ignore[arg-type]  # wrong on purpose


def test_repetition_of_a_long_random_text_is_not_found() -> None:
    rng = random.Random(0)
    assert not is_repetitive("".join(rng.choice("abcdefgh ") for _ in range(20_000)))
