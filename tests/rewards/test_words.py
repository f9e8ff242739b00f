from __future__ import annotations

import pytest

from rewards.words import (
    choice_letter,
    is_base_numeral,
    same_base_numeral,
    same_text,
    special_value,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"\emptyset", "empty"),
        (r"\{\}", "empty"),
        ("no solution", "empty"),
        (r"\text{No real solutions.}", "empty"),
        (r"\infty", "infinity"),
        (r"+\infty", "infinity"),
        (r"-\infty", "-infinity"),
        ("infinity", "infinity"),
        ("DNE", "undefined"),
        ("does not exist", "undefined"),
        ("-undefined", None),
        ("0", None),
        ("", None),
    ],
)
def test_special_values_have_synonyms(text: str, value: str | None) -> None:
    assert special_value(text) == value


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("B) 12", "B"),
        ("B: a cat", "B"),
        (r"\text{(A)} 12", "A"),
        ("(B) A cat sat", "B"),
        ("A or B", None),
        ("A, B", None),
        ("(A) and (B)", None),
        ("AB", None),
        ("Because", None),
        ("B^2", None),
        ("b", None),
        ("12", None),
    ],
)
def test_a_choice_is_one_letter_and_no_hedge(text: str, letter: str | None) -> None:
    assert choice_letter(text) == letter


def test_text_ignores_case_articles_and_outer_punctuation_only() -> None:
    assert same_text("Evelyn", '"evelyn."')
    assert same_text("the cube", "Cube")
    assert not same_text("even", "not even")
    assert not same_text("Evelyn", "Evelyn or Bob")


def test_base_numerals_compare_by_digits_and_base() -> None:
    assert is_base_numeral("1101_2") and is_base_numeral("1A_{16}") and not is_base_numeral("x_1")
    assert same_base_numeral("1101_2", "1101") and same_base_numeral("1101_2", "1101_{2}")
    assert not same_base_numeral("1101_2", "1101_3") and not same_base_numeral("1101_2", "13")
