from __future__ import annotations

import pytest

from rewards.answer_kinds import AnswerKind, infer_kind
from rewards.equations import free_letters, same_equation, unwrap_value
from rewards.latex_cleanup import clean
from rewards.matrices import parse_matrix, same_matrix


def equal(gold: str, pred: str) -> bool:
    return gold == pred


def never(gold: str, pred: str) -> bool:
    return False


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x = 18", "18"),
        ("x_1 = 18", "18"),
        ("f(x) = 2x", "2x"),
        (r"\text{Area} = 18", "18"),
        (r"3\cdot 6 = 18", "18"),
        ("x = 3+15 = 18", "18"),
        ("2x = 18", "2x = 18"),
        ("x+1 = 18", "x+1 = 18"),
        ("x = 1, y = 2", "x = 1, y = 2"),
        ("x =", "x ="),
        ("18", "18"),
    ],
)
def test_chains_and_assignments_give_their_value(text: str, value: str) -> None:
    assert unwrap_value(text) == value


def test_equations_accept_values_and_the_same_name_but_nothing_unsolved() -> None:
    assert same_equation("x=5", "5", equal, never)
    assert same_equation("x=5", "x = 5", equal, never)
    assert not same_equation("x=5", "y=5", equal, never)
    assert not same_equation("x=5", "2x+1=11", equal, lambda gold, pred: True)
    assert same_equation("y=2x+3", "2y=4x+6", equal, lambda gold, pred: True)
    assert not same_equation("f(x)=2x", "g(x)=2x", equal, lambda gold, pred: True)


def test_free_letters_leave_out_constants_and_commands() -> None:
    assert free_letters(r"\frac{x}{\pi} + e^{i\theta} + \sqrt{AB}") == {"x", "A", "B", r"\theta"}


def test_matrices_compare_by_shape_and_entries() -> None:
    gold = r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"
    assert parse_matrix(gold) == [["1", "2"], ["3", "4"]]
    assert same_matrix(gold, r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \\ \end{bmatrix}", equal)
    assert same_matrix(gold, r"[\begin{array}{cc}1&2\\3&4\end{array}]", equal)
    assert not same_matrix(gold, r"\begin{pmatrix}1&2&3&4\end{pmatrix}", equal)
    assert not same_matrix(gold, "1,2,3,4", equal)


@pytest.mark.parametrize(
    ("gold", "kind"),
    [
        ("18", AnswerKind.NUMBER),
        (r"5\text{ cm}", AnswerKind.NUMBER),
        (r"\emptyset", AnswerKind.SPECIAL),
        ("B", AnswerKind.CHOICE),
        ("1101_2", AnswerKind.BASE),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", AnswerKind.MATRIX),
        ("[1,2)", AnswerKind.INTERVAL),
        ("x<3", AnswerKind.INTERVAL),
        ("(1,2)", AnswerKind.TUPLE),
        ("1,2", AnswerKind.LIST),
        (r"\pm 3", AnswerKind.LIST),
        ("x=1,y=2", AnswerKind.LIST),
        ("y=2x+3", AnswerKind.EQUATION),
        (r"\text{even}", AnswerKind.TEXT),
        ("Tuesday", AnswerKind.TEXT),
        (r"\text{yes}", AnswerKind.TEXT),
        ("xy", AnswerKind.EXPRESSION),
        (r"\frac{\pi}{2}", AnswerKind.EXPRESSION),
        ("x+y<3", AnswerKind.EXPRESSION),
    ],
)
def test_the_kind_comes_from_the_reference(gold: str, kind: AnswerKind) -> None:
    assert infer_kind(clean(gold), gold) is kind
