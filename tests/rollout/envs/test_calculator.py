"""The calculator's arithmetic and its turns."""

from __future__ import annotations

from fractions import Fraction

import pytest

from rollout.envs.calculator import Calculator, evaluate


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 + 3 * 4", Fraction(14)),
        ("(2+3)*4", Fraction(20)),
        ("1/3 + 1/6", Fraction(1, 2)),
        ("0.1 + 0.2", Fraction(3, 10)),
        ("-ans", Fraction(-7)),
        ("ans - -ans", Fraction(14)),
    ],
)
def test_values_are_exact(text: str, value: Fraction) -> None:
    assert evaluate(text, Fraction(7)) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not an expression"),
        ("2 +", "not an expression"),
        ("2 ** 3", "only numbers"),
        ("7 // 2", "only numbers"),
        ("__import__('os')", "only numbers"),
        ("ans.real", "only numbers|not an expression"),
        ("1(2)", "only numbers"),
        ("1" * 61, "more than 60 digits"),
        ("1e400", "only numbers"),
        ("(" * 150, "not an expression"),
        ("1+" * 101, "longer than 200"),
    ],
)
def test_anything_else_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(text, Fraction(1))


def test_a_session() -> None:
    calculator = Calculator()
    calculator.reset({})
    assert calculator.step("so <calc>1/3</calc>").text == "1/3"
    assert calculator.step("<calc>ans*3</calc>").text == "1"
    assert calculator.step("<calc>ans/0</calc>").text.startswith("error: ")
    end = calculator.step("thus <answer> 1 </answer>")
    assert end.done
    assert end.detail == {"results": 2, "errors": 1, "answer": "1"}


@pytest.mark.parametrize("turn", ["1+1</calc>", "<answer>1</calc>", "1</answer>"])
def test_a_tag_that_was_never_opened_breaks_the_format(turn: str) -> None:
    assert Calculator().step(turn).broke_format
