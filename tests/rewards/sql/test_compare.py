from __future__ import annotations

import random
from collections import Counter
from decimal import Decimal
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.sql import compare
from rewards.sql.compare import Expected, Group, in_sequence, matches, unordered
from rewards.sql.outcome import Row
from rewards.sql.values import row_keys, sort_key, value_key

CELLS = st.sampled_from([None, 0, 1, 2, "1", "a", b"a", 0.5, 1.0])
TABLES = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.tuples(*[CELLS] * width), min_size=1, max_size=6)
)


def same(gold: list[Row], predicted: list[Row], width: int | None = None) -> bool:
    expected = unordered(row_keys(gold), len(gold[0]))
    return matches(expected, row_keys(predicted), len(gold[0]) if width is None else width)


@pytest.mark.parametrize(
    ("left", "right"),
    [(1, 1.0), (1, True), (0, -0.0), (0.1 + 0.2, 0.3), (Decimal("1.50"), 1.5), (Decimal("7"), 7),
     (3.0000000000000004, 3), (float("nan"), float("nan")), (Decimal("NaN"), float("nan")),
     (10**15, 1e15), (None, None), ("a", "a"), (b"a", b"a")],
)  # fmt: skip
def test_equal_cells_have_equal_keys(left: object, right: object) -> None:
    assert value_key(left) == value_key(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [("1", 1), ("1", 1.0), (None, 0), (None, ""), ("a", "A"), ("a", "a "), (b"a", "a"),
     (1583.33, 1583.3333333), (10**15, 10**15 + 1), (12345678901, 12345678902), ("nan", float("nan"))],
)  # fmt: skip
def test_different_cells_have_different_keys(left: object, right: object) -> None:
    assert value_key(left) != value_key(right)


def test_rows_of_mixed_types_can_be_sorted() -> None:
    rows = row_keys([(value,) for value in (b"x", "a", None, 2, 0.5, float("nan"), True)])
    assert [row[0] for row in sorted(rows, key=sort_key)][:4] == [None, 0.5, 1, 2]


@given(TABLES, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_any_permutation_of_rows_and_columns_matches(table: list[Row], rng: random.Random) -> None:
    columns = list(range(len(table[0])))
    rng.shuffle(columns)
    shuffled = [tuple(row[i] for i in columns) for row in table]
    rng.shuffle(shuffled)
    assert same(table, shuffled)


@given(TABLES, TABLES)
@settings(max_examples=300, deadline=None)
def test_matching_agrees_with_trying_all_column_orders(left: list[Row], right: list[Row]) -> None:
    width = len(left[0])
    brute = len(right[0]) == width and any(
        Counter(row_keys(left))
        == Counter(row_keys([tuple(row[i] for i in order) for row in right]))
        for order in permutations(range(width))
    )
    assert same(left, right, len(right[0])) == brute


@given(TABLES, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_a_changed_cell_never_matches(table: list[Row], rng: random.Random) -> None:
    row, column = rng.randrange(len(table)), rng.randrange(len(table[0]))
    changed = [list(cells) for cells in table]
    changed[row][column] = "changed"
    assert not same(table, [tuple(cells) for cells in changed])


def test_columns_are_not_matched_one_by_one() -> None:
    assert not same([(1, "a"), (2, "b")], [(1, "b"), (2, "a")])


def test_the_number_of_columns_counts_even_without_rows() -> None:
    assert not matches(Expected(2, ()), [], 1)
    assert matches(Expected(2, ()), [], 2)


def test_noise_across_a_rounding_boundary_is_forgiven_once() -> None:
    gold = [(1.0000000005, "a"), (2.5, "b")]
    assert same(gold, [("b", 2.5), ("a", 1.0000000005000002)])
    assert not same(gold, [(1.00000001, "a"), (2.5, "b")])
    assert not same([(10**12 + 1, 0.5)], [(10**12, 0.5)]), "whole numbers are exact"
    assert not same([(1e12 + 1,)], [(10**12,)]), "also when stored as floats"


def test_order_within_a_group_is_free_and_between_groups_fixed() -> None:
    expected = Expected(1, (Group(((1,), (2,)), 2), Group(((3,),), 1)))
    assert matches(expected, [(2,), (1,), (3,)], 1)
    assert not matches(expected, [(3,), (1,), (2,)], 1)


def test_a_cut_group_offers_any_of_its_rows_but_none_twice() -> None:
    expected = Expected(2, (Group(((1, "a"), (2, "b"), (5, "c")), 2),))
    assert matches(expected, [("c", 5), ("a", 1)], 2)
    assert not matches(expected, [(1, "a"), (1, "a")], 2)
    assert not matches(expected, [(1, "b"), (2, "a")], 2)


def test_a_sequence_may_have_its_columns_swapped() -> None:
    expected = in_sequence([(1, "a"), (2, "b")], 2)
    assert matches(expected, [("a", 1), ("b", 2)], 2)
    assert not matches(expected, [("a", 1), ("b", 2)], 2, any_column_order=False)


def test_the_search_is_bounded_for_wide_symmetric_results(monkeypatch: pytest.MonkeyPatch) -> None:
    visited = []
    accepts = compare._Search.accepts

    def counted(search: compare._Search, assignment: tuple[int, ...]) -> bool:
        visited.append(assignment)
        return accepts(search, assignment)

    monkeypatch.setattr(compare._Search, "accepts", counted)
    rng = random.Random(1)
    width = 12
    gold = [tuple(rng.randrange(2) for _ in range(width)) for _ in range(40)]
    rows = [tuple(rng.sample(row, width)) for row in gold]
    matches(unordered(gold, width), rows, width)
    assert len(visited) <= compare.MAX_ASSIGNMENTS + 2
