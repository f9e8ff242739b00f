"""What kind of answer a reference is (policy P4): decided from the reference alone."""

from __future__ import annotations

import re
from enum import StrEnum

from rewards.equations import sides
from rewards.intervals import is_interval_notation, parse_region
from rewards.matrices import parse_matrix
from rewards.numbers_exact import parse_literal
from rewards.sequences import is_list, tuple_parts
from rewards.words import choice_letter, is_base_numeral, special_value

_LETTER = re.compile(r"\(?[A-J]\)?")
_WORDS = re.compile(r"[A-Za-z][A-Za-z' .\-]{3,}")
_TEXT_ONLY = re.compile(r"(?:\\text\s*\{[^{}]*\}\s*)+")


class AnswerKind(StrEnum):
    """How a reference is compared; the values are what the data-set column `kind` may hold."""

    SPECIAL = "special"
    """No solution, infinity, undefined."""
    CHOICE = "choice"
    """Letter of a multiple-choice question."""
    BASE = "base"
    """Numeral with a base subscript."""
    NUMBER = "number"
    """Rational literal, possibly with a unit or percent sign."""
    MATRIX = "matrix"
    """Matrix or column vector."""
    INTERVAL = "interval"
    """Interval, union or solved inequality."""
    TUPLE = "tuple"
    """Ordered coordinates in parentheses."""
    LIST = "list"
    """Unordered values."""
    EQUATION = "equation"
    """One equation or assignment."""
    TEXT = "text"
    """Words."""
    EXPRESSION = "expression"
    """Everything else: closed forms and algebra."""


def infer_kind(gold: str, raw: str = "") -> AnswerKind:
    """Kind of a cleaned reference.

    Args:
        gold: The cleaned reference.
        raw: The reference before cleaning; tells words in text commands from products of letters.
    """
    for kind, matches in _TESTS:
        if matches(gold):
            return kind
    is_text = bool(_TEXT_ONLY.fullmatch(raw.strip())) or _WORDS.fullmatch(gold) is not None
    return AnswerKind.TEXT if is_text else AnswerKind.EXPRESSION


def _is_choice(gold: str) -> bool:
    return _LETTER.fullmatch(gold) is not None and choice_letter(gold) is not None


def _is_region(gold: str) -> bool:
    return is_interval_notation(gold) and parse_region(gold) is not None


def _is_equation(gold: str) -> bool:
    members = sides(gold)
    return len(members) == 2 and all(members)


_TESTS = (
    (AnswerKind.NUMBER, lambda gold: parse_literal(gold) is not None),
    (AnswerKind.SPECIAL, lambda gold: special_value(gold) is not None),
    (AnswerKind.CHOICE, _is_choice),
    (AnswerKind.BASE, is_base_numeral),
    (AnswerKind.MATRIX, lambda gold: parse_matrix(gold) is not None),
    (AnswerKind.INTERVAL, _is_region),
    (AnswerKind.TUPLE, lambda gold: tuple_parts(gold) is not None),
    (AnswerKind.LIST, is_list),
    (AnswerKind.EQUATION, _is_equation),
)
