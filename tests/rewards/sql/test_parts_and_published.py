from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.sql.parts import cell_f1, set_f1
from rewards.sql.published import bird_equal, exact_set_equal, soft_f1

GOLD = [(1, "a"), (2, "b")]
ROWS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab")), max_size=5)


@pytest.mark.parametrize(
    ("gold", "predicted", "f1"),
    [
        (GOLD, GOLD, 1.0),
        (GOLD, [("a", 1), ("b", 2)], 1.0),
        (GOLD, [(2, "b"), (1, "a")], 0.0),
        (GOLD, [(1, "a")], 0.666667),
        (GOLD, [(1, "a"), (2, "b"), (3, "c")], 0.8),
        (GOLD, [(1,), (2,)], 0.666667),
        (GOLD, [(1, "a", "x"), (2, "b", "y")], 0.8),
        ([(1, 2)], [(1, 1)], 0.8),
        ([(1, 2)], [(1, 1, 1, 1)], 0.888889),
        ([], [], 1.0),
        ([(1, 2)], [], 0.0),
    ],
)
def test_soft_f1_gives_the_numbers_of_the_published_script(
    gold: list[tuple[object, ...]], predicted: list[tuple[object, ...]], f1: float
) -> None:
    assert soft_f1(gold, predicted) == pytest.approx(f1, abs=1e-6)


@pytest.mark.parametrize(
    ("gold", "predicted", "f1"),
    [
        (GOLD, GOLD, 1.0),
        (GOLD, [("b", 2), ("a", 1)], 1.0),
        (GOLD, [(1, "a")], 2 * 2 / 6),
        (GOLD, [(1,), (2,)], 2 * 2 / 6),
        (GOLD, [(1, "a", "x"), (2, "b", "y")], 2 * 4 / 10),
        (GOLD, [(1, "b"), (2, "a")], 2 * 2 / 8),
        ([(1, 2)], [(1, 1)], 2 * 1 / 4),
        ([(1, 2)], [(1, 1, 1, 1)], 2 * 1 / 6),
        ([(1,)], [(1, 1, 1, 1)], 0.0),
        (GOLD, [], 0.0),
    ],
)
def test_cell_f1_pairs_cells_one_to_one(
    gold: list[tuple[object, ...]], predicted: list[tuple[object, ...]], f1: float
) -> None:
    widths = (len(gold[0]), len(predicted[0]) if predicted else 2)
    assert cell_f1(gold, predicted, widths) == pytest.approx(f1)


@pytest.mark.parametrize("copies", [1, 2, 3, 10, 100])
def test_repeating_a_right_value_does_not_pay(copies: int) -> None:
    assert cell_f1([(1, 2)], [(1,) * copies], (2, copies)) <= 2 / 3


@given(ROWS.filter(bool), ROWS, st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_cell_f1_is_one_exactly_for_equal_bags_and_ignores_row_order(
    gold: list[tuple[object, ...]], predicted: list[tuple[object, ...]], rng: random.Random
) -> None:
    value = cell_f1(gold, predicted, (2, 2))
    assert 0.0 <= value <= 1.0
    assert (value == 1.0) == (sorted(map(repr, gold)) == sorted(map(repr, predicted)))
    rng.shuffle(predicted)
    assert cell_f1(gold, predicted, (2, 2)) == value


def test_very_large_results_earn_no_partial_credit_at_once() -> None:
    rows = [(0,) * 40] * 2000
    assert cell_f1(rows, rows, (40, 40)) == 0.0


def test_set_f1_on_worked_numbers() -> None:
    assert (set_f1({1, 2}, {2, 3}), set_f1(set(), set()), set_f1({1}, set())) == (0.5, 1.0, 0.0)


def test_bird_compares_sets_with_columns_in_place() -> None:
    assert bird_equal(GOLD, [(2, "b"), (1, "a"), (1, "a")])
    assert not bird_equal(GOLD, [("a", 1), ("b", 2)])


@pytest.mark.parametrize(
    ("gold", "predicted", "is_equal"),
    [
        ("SELECT name FROM emp WHERE age > 3 AND id = 1", "select E.name from EMP e where e.id=7 and e.age>9", True),
        ("SELECT name, age FROM emp", "SELECT age, name FROM emp", True),
        ("SELECT name FROM emp", "SELECT DISTINCT name FROM emp", True),
        ("SELECT name FROM emp WHERE age > 3", "SELECT name FROM emp WHERE age >= 3", False),
        ("SELECT name FROM emp", "SELECT name FROM emp ORDER BY name", False),
        ("SELECT name FROM emp", "SELECT name FROM dept", False),
        ("SELECT name FROM emp", "SELEC (", False),
        ("SELECT a FROM t GROUP BY a, b", "SELECT a FROM t GROUP BY b, a", True),
    ],
)  # fmt: skip
def test_exact_set_compares_clauses_without_constants(
    gold: str, predicted: str, is_equal: bool
) -> None:
    assert exact_set_equal(gold, predicted, "sqlite") is is_equal
