"""Equations, assignments and chains `A = B = C` (policies P3 and P11 of docs/rewards.md)."""

from __future__ import annotations

import re

from rewards.latex_cleanup import squash, without_text_commands
from rewards.sequences import Same, split_elements

_NAME = re.compile(
    r"(?:m?\\angle\s*)?(?:\\?[a-zA-Z]|[A-Z]{2,4}|[a-zA-Z]{3,}(?:[ ][a-zA-Z]+)*|\\[a-zA-Z]+)"
    r"(?:_(?:[0-9a-zA-Z]|\{[^{}]*\}))?'?(?:\s*\([a-zA-Z](?:,\s*[a-zA-Z])*\))?"
)
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_GREEK = "alpha beta gamma delta theta lambda mu sigma tau phi psi omega rho"
_SYMBOL_COMMANDS = frozenset(f"\\{name}" for name in _GREEK.split())


def sides(text: str) -> list[str]:
    """The members of `A = B = C`; a single member when there is no equals sign."""
    return [side.strip() for side in text.split("=")]


def free_letters(text: str) -> frozenset[str]:
    r"""Letters and Greek commands that stand for variables; `e`, `i`, `\pi` are constants."""
    symbols = {name for name in _COMMAND.findall(text) if name in _SYMBOL_COMMANDS}
    letters = set(re.findall(r"[a-zA-Z]", _COMMAND.sub(" ", text)))
    return frozenset(symbols | (letters - {"e", "i"}))


def is_name(text: str) -> bool:
    r"""True for something a value can be assigned to: `x`, `x_1`, `AB`, `f(x)`, `\text{Area}`."""
    return _NAME.fullmatch(without_text_commands(text).strip()) is not None


def unwrap_value(text: str) -> str:
    r"""P3: the last member of a chain that starts with a name or with a computation of numbers.

    `3 \cdot 6 = 18` and `x = 18` give `18`; `2x + 1 = 11` is an unsolved equation and stays whole.
    """
    members = sides(text)
    if len(members) == 1 or not all(members) or len(split_elements(text)) > 1:
        return text
    return members[-1] if is_name(members[0]) or not free_letters(members[0]) else text


def same_equation(gold: str, pred: str, same: Same, proportional: Same) -> bool:
    """P11: compares with a reference that is an equation.

    Args:
        gold: Reference with exactly one equals sign.
        pred: Prediction.
        same: Equality of two values.
        proportional: True when `left - right` of both equations agree up to a constant factor.
    """
    left, right = sides(gold)
    members = sides(pred)
    if len(members) == 1:
        return is_name(left) and same(right, pred)
    if is_name(left) and squash(members[0]) == squash(left):
        return same(right, members[-1])
    if len(members) != 2 or (is_name(left) and ("(" in left or not free_letters(right))):
        return False
    return proportional(gold, pred)
