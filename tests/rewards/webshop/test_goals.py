from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from rewards.webshop.catalogue import catalogue_from_raw
from rewards.webshop.goals import (
    NO_BOUND,
    Goal,
    goal_from_row,
    goal_to_row,
    price_bound,
    shuffled,
    synthetic_goals,
)
from rewards.webshop.products import products_from_raw
from tests.rewards.webshop.toy_shop import INSTRUCTION, LOTION, raw_files

GOAL = Goal(
    id="B1-0", instruction="a", name="b", query="c", product_category="d", attributes=("e",)
)


def test_human_goals_without_attributes_are_left_out_and_numbers_stay() -> None:
    goals = catalogue_from_raw(raw_files()).goals
    assert [goal.id for goal in goals] == [f"{LOTION}-1"]
    assert goals[0].attributes == ("fragrance free",) and goals[0].options == ("lavender",)
    assert goals[0].instruction == INSTRUCTION and goals[0].price_upper == 40.0


def test_synthetic_goals_are_one_per_combination_with_option_pairs() -> None:
    raw = raw_files()
    products = products_from_raw(raw.items, raw.attributes, seed=0)
    row = {LOTION: {"instruction": "Find me lotions", "instruction_attributes": ["dry skin"]}}
    goals = list(synthetic_goals(products, row, seed=0))
    assert [goal.options for goal in goals] == [
        (("scent", scent), ("size", size))
        for scent in ("lavender", "vanilla | oat")
        for size in ("2 fl oz", '52"w')
    ]
    bound = goals[0].price_upper
    assert goals[0].instruction == (
        f"Find me lotions with scent: lavender, and size: 2 fl oz, and price lower than {bound:.2f} dollars"
    )
    assert {goal.price_upper for goal in goals} == {bound}


@pytest.mark.parametrize(
    ("price", "bounds"),
    [(24.31, {40, 50, 60}), (30.0, {50, 60, 70}), (965.0, {980, 990}), (979.99, {990})],
)
def test_bounds_are_the_larger_of_two_of_four_multiples_of_ten(
    price: float, bounds: set[int]
) -> None:
    drawn = {price_bound(price, str(key)) for key in range(200)}  # misses one: p < 3 * (5/6)**200
    assert {bound for bound, _ in drawn} == bounds
    assert all(text == f", and price lower than {bound:.2f} dollars" for bound, text in drawn)


@pytest.mark.parametrize("price", [980.0, 5000.0])
def test_expensive_products_have_no_bound_and_no_text(price: float) -> None:
    assert price_bound(price, "key") == (NO_BOUND, "")


def test_a_goal_without_attributes_is_refused() -> None:
    with pytest.raises(ValueError, match="no attributes"):
        replace(GOAL, attributes=())


@pytest.mark.parametrize("bound", [0.0, -1.0, float("nan")])
def test_a_bound_that_is_not_positive_is_refused(bound: float) -> None:
    with pytest.raises(ValueError, match="price_upper"):
        replace(GOAL, price_upper=bound)


@pytest.mark.parametrize(
    "options", [(), ("lavender", "2 oz"), (("scent", "a"), ("size", "b")), ("x", ("size", "b"))]
)
def test_a_goal_survives_its_row_and_json(options: tuple[str | tuple[str, str], ...]) -> None:
    goal = replace(GOAL, options=options)
    assert goal_from_row(json.loads(json.dumps(goal_to_row(goal)))) == goal


def test_keys_of_other_rows_that_a_table_filled_with_none_are_no_options() -> None:
    row = goal_to_row(GOAL) | {"goal_options": {"scent": "a", "size": None}}
    assert goal_from_row(row).options == (("scent", "a"),)


@pytest.mark.parametrize(
    "row", [{}, goal_to_row(GOAL) | {"attributes": None}, goal_to_row(GOAL) | {"goal_options": [3]}]
)
def test_a_row_that_is_no_goal_is_an_error(row: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a goal"):
        goal_from_row(row)


def test_goals_are_shuffled_as_the_official_seed_does() -> None:
    goals = [replace(GOAL, id=str(number)) for number in range(100)]
    expected = list(range(100))
    random.seed(233)
    random.shuffle(expected)
    assert [goal.id for goal in shuffled(goals)] == [str(number) for number in expected]
