from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rewards.sequences import (
    elements_of,
    is_list,
    is_matching,
    same_list,
    same_tuple,
    split_elements,
)


def equal(gold: str, pred: str) -> bool:
    return gold == pred


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        ("1,2", ["1", "2"]),
        (r"\{1, 2\}", ["1", "2"]),
        ("(1,2)", ["1", "2"]),
        ("[1,2,3]", ["1", "2", "3"]),
        ("(1,2),(3,4)", ["(1,2)", "(3,4)"]),
        ("1 or 2 and 3; 4", ["1", "2", "3", "4"]),
        (r"\pm 3", ["3", "-3"]),
        (r"3\pm\sqrt{2}", [r"3+\sqrt{2}", r"3-\sqrt{2}"]),
        (r"a \pm b \mp c", ["a +b -c", "a -b +c"]),
        (r"f(1,2)", ["f(1,2)"]),
        ("order", ["order"]),
    ],
)
def test_elements(text: str, elements: list[str]) -> None:
    assert elements_of(text) == elements


def test_empty_elements_are_dropped() -> None:
    assert split_elements("1,,2, ") == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1,2", True), (r"\{1\}", True), (r"\pm 1", True), ("[1,2,3]", True), ("[1,2]", False),
     ("(1,2)", False), ("1", False)],
)  # fmt: skip
def test_what_counts_as_a_list(text: str, expected: bool) -> None:
    assert is_list(text) is expected


@example(edges=[(0, 0), (0, 1), (1, 0)], size=2)
@given(
    edges=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12),
    size=st.integers(1, 4),
)
def test_matching_agrees_with_trying_all_permutations(
    edges: list[tuple[int, int]], size: int
) -> None:
    allowed = {(str(a), str(b)) for a, b in edges}
    names = [str(i) for i in range(size)]
    brute = any(
        all(pair in allowed for pair in zip(names, order, strict=True))
        for order in itertools.permutations(names)
    )
    assert is_matching(names, names, lambda gold, pred: (gold, pred) in allowed) is brute


def test_lists_count_multiplicity_and_ignore_order() -> None:
    assert same_list("1,2,2", "2,1,2", equal)
    assert not same_list("1,2,2", "1,1,2", equal)
    assert not same_list("1,1,2", "1,2", equal)


def test_assignments_to_different_names_compare_by_name() -> None:
    assert same_list("x=1,y=2", "y=2, x=1", equal)
    assert not same_list("x=1,y=2", "x=2,y=1", equal)
    assert same_list("x=1,y=2", "(1,2)", equal)
    assert not same_list("x=1,y=2", "(2,1)", equal)


def test_tuples_are_ordered_and_brackets_matter() -> None:
    assert same_tuple("(1,2)", "1, 2", equal)
    assert same_tuple("(1,2)", "x=1, y=2", equal)
    assert not same_tuple("(1,2)", "(2,1)", equal)
    assert not same_tuple("(1,2)", r"\{1,2\}", equal)
    assert not same_tuple("(1,2)", "[1,2]", equal)
