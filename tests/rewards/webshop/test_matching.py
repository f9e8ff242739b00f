from __future__ import annotations

import json
from pathlib import Path

import pytest

from rewards.webshop.matching import (
    COLORS,
    is_similar,
    normalized_color,
    option_matches,
    option_matches_strictly,
)

PAIRS = Path(__file__).resolve().parents[2] / "data" / "webshop" / "similar_pairs.jsonl"


def test_the_same_decisions_as_the_library_of_the_original() -> None:
    rows = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]
    wrong = [row for row in rows if is_similar(row["text"], row["other"]) != (row["thefuzz"] > 85)]
    assert wrong == [] and sum(row["thefuzz"] == 85 for row in rows) > 5


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("navy blue", "blue"), ("light blue", "blue"), ("dark navy", "dark"), ("dark green", "dark"),
        ("bored", "red"), ("16 fl oz", "16 fl oz"), (("color", "grey"), "grey"),
        (("size", "small"), "('size', 'small')"), (("color", "dark blue"), "('color', 'dark blue')"),
    ],
)  # fmt: skip
def test_colours_are_normalised_to_the_first_of_the_list(
    option: str | tuple[str, str], expected: str
) -> None:
    assert normalized_color(option) == expected


def test_the_colour_list_is_in_order_and_complete() -> None:
    assert len(COLORS) == len(set(COLORS)) == 102 and list(COLORS) == sorted(COLORS)


@pytest.mark.parametrize(
    ("chosen", "wanted", "is_official", "is_strict"),
    [
        ("small", "x-small", True, False),
        ("7.5", "7.5 wide", True, False),
        ("dark green", "dark navy", True, False),
        ("blue", "navy blue", True, False),
        ("16 fl oz", "16 fl oz", True, True),
        ("16 FL OZ", "oz 16 fl", True, True),
        ("citrus", "lavender", False, False),
        ("grey", ("size", "grey"), True, True),
        ("grey", ("color", "grey"), True, False),
        ("large", ("size", "large"), True, True),
        ("large", ("size", "small"), False, False),
    ],
)
def test_official_and_strict_option_matches(
    chosen: str, wanted: str | tuple[str, str], is_official: bool, is_strict: bool
) -> None:
    assert option_matches(chosen, wanted) == is_official
    assert option_matches_strictly("size", chosen, wanted) == is_strict
