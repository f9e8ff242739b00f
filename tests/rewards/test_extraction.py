from __future__ import annotations

import pytest

from rewards.extraction import extract_answer, last_number


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{\left\{x}", r"\left\{x"),
        (r"\boxed {7}", "7"),
        (r"\fbox{2}", "2"),
        (r"\boxed{\boxed{2}}", "2"),
        (r"\boxed{\text{a} \fbox{b} c}", "b"),
        (r"\boxed{1}, \boxed{2} and $\boxed{3}$", "1, 2, 3"),
        (r"\(\boxed{1}\) or \(\boxed{2}\)", "1, 2"),
        (r"\boxed{1}\text{ or }\boxed{2}", "1, 2"),
        (r"\boxed{} and \boxed{2}", "2"),
        (r"\boxed{5}, but now \boxed{7}", "7"),
        (r"\boxed 12", None),
        (r"\boxed{3} \boxed 12", "3"),
        (r"\boxed{12} and \boxed{13", None),
        (r"\boxed{12} \boxed{ }", None),
        ("", None),
    ],
)
def test_the_last_box_decides(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>\\boxed{1}</think> \\boxed{2}", "2"),
        ("<think>\\boxed{1}</think> none", None),
        ("<think>\\boxed{1}", None),
        ("</think> a </think> \\boxed{3}", "3"),
    ],
)
def test_only_text_after_the_reasoning_counts(text: str, answer: str | None) -> None:
    assert extract_answer(text, reasoning_end="</think>") == answer


@pytest.mark.parametrize(
    ("mode", "text", "answer"),
    [
        ("answer_tag", "<answer> 4 </answer>", "4"),
        ("answer_tag", "<answer>1</answer> <answer>2</answer>", "2"),
        ("answer_tag", r"<answer>it is \boxed{5}</answer>", "5"),
        ("answer_tag", "<answer>1</answer> <answer>2", None),
        ("answer_tag", "4", None),
        ("gsm8k", "a\n#### 1,234\nmore", "1,234"),
        ("gsm8k", "#### 1\n#### 2", "2"),
        ("gsm8k", "####", None),
        ("gsm8k", "12", None),
        ("last_number", "from 3 to -1,234.5.", "-1,234.5"),
        ("last_number", "none", None),
    ],
)
def test_other_modes(mode: str, text: str, answer: str | None) -> None:
    assert extract_answer(text, mode) == answer  # type: ignore[arg-type]  # parametrised literal


def test_a_trailing_comma_is_not_part_of_a_number() -> None:
    assert last_number("first 12, then nothing") == "12"
