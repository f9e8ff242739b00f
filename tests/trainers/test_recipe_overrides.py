from pathlib import Path
from typing import Any

import pytest

from trainers.recipe_format import RecipeError
from trainers.recipe_overrides import apply_overrides


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("rollout.width=8", {"rollout": {"width": 8}, "rewards": [{"weight": 1.0}]}),
        ("rewards.0.weight=2.5", {"rollout": {"width": 4}, "rewards": [{"weight": 2.5}]}),
        ("rewards=[]", {"rollout": {"width": 4}, "rewards": []}),
        ("rollout={width: 2}", {"rollout": {"width": 2}, "rewards": [{"weight": 1.0}]}),
        (
            "rollout.a.b=x=y",
            {"rollout": {"width": 4, "a": {"b": "x=y"}}, "rewards": [{"weight": 1.0}]},
        ),
        (
            "model.path=",
            {"rollout": {"width": 4}, "rewards": [{"weight": 1.0}], "model": {"path": None}},
        ),
    ],
)
def test_an_override_sets_one_value(override: str, expected: dict[str, Any]) -> None:
    mapping: dict[str, Any] = {"rollout": {"width": 4}, "rewards": [{"weight": 1.0}]}
    apply_overrides(mapping, [override], Path("/base"))
    assert mapping == expected


def test_the_last_of_two_overrides_wins() -> None:
    mapping: dict[str, Any] = {}
    apply_overrides(mapping, ["a.b=1", "a.b=2"], Path("/base"))
    assert mapping == {"a": {"b": 2}}


def test_a_section_that_is_empty_in_the_file_can_be_filled() -> None:
    mapping: dict[str, Any] = {"a": None}
    apply_overrides(mapping, ["a.b=1"], Path("/base"))
    assert mapping == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("./x", "/base/x"),
        ("../x", "/x"),
        ("x/y", "x/y"),
        ("[./x, {k: ./y}]", ["/base/x", {"k": "/base/y"}]),
        (".hidden", ".hidden"),
    ],
)
def test_only_texts_that_start_with_dots_and_a_slash_are_paths(
    value: str, expected: object
) -> None:
    mapping: dict[str, Any] = {}
    apply_overrides(mapping, [f"a={value}"], Path("/base"))
    assert mapping == {"a": expected}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rollout.width", "--set rollout.width: expected key.path=value"),
        ("=3", "--set =3: expected key.path=value"),
        ("a..b=3", "expected key.path=value"),
        ("rewards.1.weight=2", "rewards is a list of 1; use an index 0..0"),
        ("rewards.x.weight=2", "rewards is a list of 1"),
        ("rollout.width.x=2", "rollout.width=4 has no keys; set rollout.width itself"),
        ("a=[1", "--set a=[1:1: not valid YAML"),
    ],
)
def test_a_wrong_override_is_named(override: str, message: str) -> None:
    mapping: dict[str, Any] = {"rollout": {"width": 4}, "rewards": [{"weight": 1.0}]}
    with pytest.raises(RecipeError) as caught:
        apply_overrides(mapping, [override], Path("/base"))
    assert message in str(caught.value)
