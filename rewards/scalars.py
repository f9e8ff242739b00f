"""Comparison of two single values: exact numbers first, algebra only when it is needed.

The algebra is behind the `Algebra` protocol. In the training process it is `DEFER`, which raises
`NeedsAlgebra`: the caller then repeats the whole comparison inside a worker process, where the
algebra is sympy and may be killed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from rewards.equations import free_letters
from rewards.latex_cleanup import squash
from rewards.numbers_exact import NumberLiteral, parse_literal, same_number
from rewards.sequences import split_elements
from rewards.units import same_unit, split_unit
from rewards.words import special_value

_FAMILIES: dict[str, re.Pattern[str]] = {
    "sum": re.compile(r"\\sum|\\prod"),
    "integral": re.compile(r"\\int"),
    "limit": re.compile(r"\\lim(?![a-z])"),
    "factorial": re.compile(r"!"),
    "binomial": re.compile(r"\\binom|\\choose"),
    "trigonometry": re.compile(r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc)"),
    "logarithm": re.compile(r"\\(?:ln|log|lg)(?![a-z])"),
}
_STRICT = ("sum", "integral", "limit", "factorial", "binomial")


class NeedsAlgebra(Exception):
    """The comparison cannot be decided with exact arithmetic and text alone."""


class UnreadableGold(ValueError):
    """The algebra could not parse the reference."""


class UnreadableAnswer(ValueError):
    """The algebra could not parse the answer."""


class Algebra(Protocol):
    """Expensive comparisons; implemented by rewards/symbolic.py."""

    def equal(self, gold: str, pred: str) -> bool:
        """True when two expressions are equal."""
        ...

    def equal_decimal(self, gold: str, pred: NumberLiteral) -> bool:
        """True when a number literal equals an expression exactly or as an honest decimal."""
        ...

    def proportional(self, gold: str, pred: str) -> bool:
        """True when two equations are equal up to a non-zero constant factor."""
        ...

    def has_form(self, pred: str, form: str) -> bool:
        """True when the expression is written in the form `factored`, `expanded`, `simplified`."""
        ...


class _Defer:
    """The algebra of the training process: asks for a worker."""

    def equal(self, gold: str, pred: str) -> bool:
        raise NeedsAlgebra

    def equal_decimal(self, gold: str, pred: NumberLiteral) -> bool:
        raise NeedsAlgebra

    def proportional(self, gold: str, pred: str) -> bool:
        raise NeedsAlgebra

    def has_form(self, pred: str, form: str) -> bool:
        raise NeedsAlgebra


DEFER: Algebra = _Defer()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a data-set row and the configuration say about the comparison."""

    gold_rounded: bool = False
    """A decimal reference was rounded; see `numbers_exact.same_number`."""
    form: str = ""
    """Required form of an expression, "" for any."""
    evaluated: bool = True
    """For a rational reference only literals count (P5); False also accepts `2+2`."""


def same_scalar(gold: str, pred: str, rules: Rules, algebra: Algebra) -> bool:
    """Equality of two cleaned single values (policies P5 to P8 and P15).

    Raises:
        NeedsAlgebra: `algebra` is `DEFER` and exact arithmetic cannot decide.
    """
    number, other = parse_literal(gold), parse_literal(pred)
    if number and (other or rules.evaluated):
        return other is not None and same_number(number, other, gold_rounded=rules.gold_rounded)
    if (special := special_value(gold)) is not None:
        return special_value(pred) == special
    (gold, gold_unit), (pred, unit) = split_unit(gold), split_unit(pred)
    if not same_unit(gold_unit, unit) or _is_vetoed(gold, pred, rules):
        return False
    return _same_expression(gold, pred, rules, algebra)


def _same_expression(gold: str, pred: str, rules: Rules, algebra: Algebra) -> bool:
    if rules.form and not algebra.has_form(pred, rules.form):
        return False
    if squash(gold) == squash(pred):
        return True
    literal = parse_literal(pred)
    return algebra.equal_decimal(gold, literal) if literal else algebra.equal(gold, pred)


def _is_vetoed(gold: str, pred: str, rules: Rules) -> bool:
    """Cheap reasons for "not equal": other variables, a list, an operator that restates the task."""
    if free_letters(gold) != free_letters(pred):
        return True
    if "=" in pred or r"\pm" in pred or len(split_elements(pred)) > 1 or not pred.strip():
        return True
    if not rules.evaluated:
        return False
    strict = _STRICT if free_letters(gold) else _FAMILIES
    return any(_FAMILIES[name].search(pred) and not _FAMILIES[name].search(gold) for name in strict)
