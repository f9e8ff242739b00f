from __future__ import annotations

from fractions import Fraction

import pytest

from rewards.latex_cleanup import clean
from rewards.numbers_exact import parse_literal, round_half_up, same_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-4", "-4"),
        ("007", "7"),
        ("1.50", "3/2"),
        (".5", "1/2"),
        (r"-\frac{3}{4}", "-3/4"),
        (r"\frac{-3}{4}", "-3/4"),
        (r"\frac{0.5}{2}", "1/4"),
        (r"3\frac{1}{2}", "7/2"),
        (r"-3\frac{1}{2}", "-7/2"),
        ("3 1/2", "7/2"),
        (r"1.5\times 10^{-3}", "3/2000"),
        ("2e3", "2000"),
        ("2^{10}", "1024"),
        (r"(-2)^{3}", "-8"),
        (r"(\frac{1}{2})^{-3}", "8"),
        ("-2^2", "-4"),
        (r"0.\overline{3}", "1/3"),
        (r"0.1\overline{6}", "1/6"),
        (r"-1.2\overline{34}", "-611/495"),
        (r"10\%", "10"),
        ("(18)", "18"),
    ],
)
def test_literals_have_exact_values(text: str, value: str) -> None:
    literal = parse_literal(clean(text))
    assert literal is not None and literal.value == Fraction(value)


@pytest.mark.parametrize(
    "text",
    ["", "x", "2+2", r"\sqrt{16}", "5!", "1/0", "0^{0}", "0^{-1}", "4t", "1,2", r"3\frac{3}{2}",
     "1e999", "9^{999}", "\u0664", "1 2", "--1", r"\pi", "10^{10^{10}}"],
)  # fmt: skip
def test_everything_that_must_be_computed_is_not_a_literal(text: str) -> None:
    assert parse_literal(clean(text)) is None


@pytest.mark.parametrize(
    ("gold", "pred", "expected"),
    [
        ("1/3", "0.333333", True),
        ("1/3", "0.33333", False),
        ("1/3", "0.333334", False),
        ("2/3", "0.666666", True),
        ("2/3", "0.666667", True),
        ("2/3", "-0.666667", False),
        ("1/300", "0.00333333", True),
        ("1/300", "0.003333", False),
        ("1/3", r"3.33333 \times 10^{-1}", True),
        ("1/3", r"33.3333\%", True),
        ("1/4", "0.2500001", False),
        (r"10\%", "10", True),
        ("10", r"10\%", True),
        ("0.5", r"0.5\%", False),
        ("10", r"1000\%", True),
        (r"30\%", r"30^\circ", False),
        (r"5\text{ cm}", r"5\text{ m}", False),
    ],
)
def test_equality_of_numbers(gold: str, pred: str, expected: bool) -> None:
    gold_literal, literal = parse_literal(clean(gold)), parse_literal(clean(pred))
    assert gold_literal is not None and literal is not None
    assert same_number(gold_literal, literal) is expected


def test_rounding_is_half_away_from_zero() -> None:
    assert round_half_up(Fraction(5, 2), 0) == 3
    assert round_half_up(Fraction(-5, 2), 0) == -3
    assert round_half_up(Fraction(1249, 1000), 1) == Fraction(12, 10)
    assert round_half_up(Fraction(1250), -2) == 1300
