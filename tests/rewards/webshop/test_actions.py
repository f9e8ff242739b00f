from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.webshop.actions import Action, parse_action


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("search[Body Lotion]", Action("search", "body lotion")),
        ("click[Buy Now]", Action("click", "buy now")),
        ("search[a] click[b]", Action("search[a] click", "b")),
        ("search[a] and more", Action("search", "a")),
        ("search[a]]", Action("search", "a]")),
        ("click[a[b]", Action("click[a", "b")),
        (" search[a]", Action(" search", "a")),
        ("search[ ]", Action("search", " ")),
        ("search[a\nb]", None),
        ("search[]", None),
        ("[a]", None),
        ("search", None),
        ("", None),
        ("]", None),
        ("x[", None),
    ],
)
def test_actions_are_read_as_the_official_environment_reads_them(
    text: str, expected: Action | None
) -> None:
    assert parse_action(text) == expected


@given(st.text(alphabet="ab[]\n\r X", max_size=24))
def test_two_searches_find_what_the_official_expression_finds(text: str) -> None:
    match = re.match(r"(.+)\[(.+)\]", text)
    expected = Action(match.group(1), match.group(2).lower()) if match else None
    assert parse_action(text) == expected


def test_hostile_brackets_take_linear_time() -> None:
    assert parse_action("[" * 2_000_000) is None
