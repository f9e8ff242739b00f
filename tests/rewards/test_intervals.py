from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.intervals import is_interval_notation, parse_region, same_region


def equal(gold: str, pred: str) -> bool:
    return gold == pred


@pytest.mark.parametrize(
    ("gold", "pred"),
    [
        ("[1,2)", r"1\le x<2"),
        ("[1,2)", r"2>x\ge 1"),
        ("[1,2)", r"x\in[1,2)"),
        (r"(-\infty,3)", "x<3"),
        ("x<3", "3>x"),
        (r"(-\infty,-1)\cup(1,\infty)", "x<-1 or x>1"),
        (r"(-\infty,-1)\cup(1,\infty)", "x>1, x<-1"),
        ("(0,2)", r"(0,1]\cup(1,2)"),
        ("[0,3]", r"[0,2]\cup[1,3]"),
        (r"\{1\}\cup[2,3]", r"[2,3]\cup\{1\}"),
        (r"x\ne 3", r"(-\infty,3)\cup(3,\infty)"),
        (r"[\sqrt{2},2]", r"\sqrt{2}\le t\le 2"),
    ],
)
def test_equal_regions(gold: str, pred: str) -> None:
    assert same_region(gold, pred, equal)


@pytest.mark.parametrize(
    ("gold", "pred"),
    [
        ("[1,2)", "(1,2)"),
        ("[1,2)", "[1,2]"),
        ("x<3", r"x\le 3"),
        ("x<3", "y<3"),
        ("x<3", "x>3"),
        ("x<3", "2x<6"),
        ("x<3", "x<y"),
        (r"(-\infty,3)", "2x+1<7"),
        ("(0,2)", r"(0,1)\cup(1,2)"),
        ("(0,2)", "(0,2,3)"),
        ("(0,2)", "nothing"),
        (r"(-\infty,3)", r"(\infty,3)"),
    ],
)
def test_different_regions(gold: str, pred: str) -> None:
    assert not same_region(gold, pred, equal)


@pytest.mark.parametrize("text", ["|x|<3", "2x<6", "x<y<3", "1<x>0", "[1,2", "(1;2;3)", ""])
def test_unsolved_or_broken_text_is_no_region(text: str) -> None:
    assert parse_region(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("[1,2]", True), ("(1,2]", True), (r"(1,\infty)", True), ("x<3", True), ("(1,2)", False),
     ("1,2", False), (r"\infty", False)],
)  # fmt: skip
def test_what_cannot_be_a_tuple(text: str, expected: bool) -> None:
    assert is_interval_notation(text) is expected


pieces = st.lists(
    st.tuples(st.integers(0, 6), st.integers(1, 4), st.booleans(), st.booleans()),
    min_size=1,
    max_size=5,
)


@given(first=pieces, second=pieces)
def test_unions_are_equal_exactly_when_they_hold_the_same_points(
    first: list[tuple[int, int, bool, bool]], second: list[tuple[int, int, bool, bool]]
) -> None:
    same_points = _points(first) == _points(second)
    assert same_region(_written(first), _written(second), equal) is same_points


def _written(pieces: list[tuple[int, int, bool, bool]]) -> str:
    return r"\cup ".join(
        f"{'[' if left else '('}{low},{low + size}{']' if right else ')'}"
        for low, size, left, right in pieces
    )


def _points(pieces: list[tuple[int, int, bool, bool]]) -> set[float]:
    """The integers and half-integers of a union of intervals with integer ends decide it."""
    return {
        x / 2
        for x in range(30)
        for low, size, left, right in pieces
        if low < x / 2 < low + size or (left and x / 2 == low) or (right and x / 2 == low + size)
    }
