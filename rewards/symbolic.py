"""Algebra for the worker process: sympy and math-verify behind vetoes (policy P15).

Never import this module in the training process: it has no time limit of its own, its caller is
killed instead. math-verify compares constants after rounding to six decimals and evaluates what the
model should have evaluated, so its "equal" is asked only after every veto and after numeric probing
to 30 digits agreed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

import sympy
from latex2sympy2_extended import NormalizationConfig, latex2sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from math_verify import verify

from rewards.equations import sides
from rewards.latex_cleanup import without_text_commands
from rewards.numbers_exact import NumberLiteral, is_honest_decimal
from rewards.scalars import UnreadableAnswer, UnreadableGold

_NORMALIZATION = NormalizationConfig(
    basic_latex=True,
    units=False,
    malformed_operators=True,
    nits=False,
    boxed="none",
    equations=False,
)
_CONVERSION = ConversionConfig(
    interpret_as_mixed_fractions=True,
    interpret_simple_eq_as_assignment=False,
    interpret_contains_as_eq=False,
    lowercase_symbols=False,
)
_NUM_PROBES = 8
_PROBE_DIGITS = 30
_TOLERANCE = sympy.Float("1e-25", _PROBE_DIGITS)

logging.getLogger("math_verify").setLevel(logging.ERROR)
logging.getLogger("latex2sympy2_extended").setLevel(logging.ERROR)

Expression = Any  # sympy has no useful static types; values are sympy.Basic


class SympyAlgebra:
    """Implements `scalars.Algebra`; slow and unbounded in time by design."""

    def equal(self, gold: str, pred: str) -> bool:
        """Equal by structure, else by probing and proof; the free symbols must be the same."""
        gold_expr, expr = _gold(gold), _answer(pred)
        if gold_expr == expr:
            return True
        if not (isinstance(gold_expr, sympy.Expr) and isinstance(expr, sympy.Expr)):
            return _is_verified(gold_expr, expr)
        if gold_expr.free_symbols != expr.free_symbols:
            return False
        return _is_zero(gold_expr - expr)

    def equal_decimal(self, gold: str, pred: NumberLiteral) -> bool:
        """Exact equality, or at least six digits that round or truncate the exact value."""
        gold_expr = _gold(gold)
        if gold_expr.free_symbols:
            return False
        exact = sympy.Rational(pred.amount.numerator, pred.amount.denominator)
        value = sympy.N(gold_expr, 100)
        if not getattr(value, "is_real", False) or not value.is_finite:
            return False
        return is_honest_decimal(pred, Fraction(str(value))) or _is_zero(gold_expr - exact)

    def proportional(self, gold: str, pred: str) -> bool:
        """`left - right` of both equations agree up to a non-zero constant factor."""
        gold_expr = _difference(gold, UnreadableGold)
        expr = _difference(pred, UnreadableAnswer)
        if gold_expr.free_symbols != expr.free_symbols or not expr.free_symbols:
            return False
        ratio = sympy.cancel(sympy.together(gold_expr / expr))
        if ratio.free_symbols:
            ratio = sympy.simplify(ratio)
        return not ratio.free_symbols and bool(ratio.is_finite) and not ratio.is_zero

    def has_form(self, pred: str, form: str) -> bool:
        """Checks the syntax tree as written, before any rewriting."""
        expr = _answer(pred)
        if not isinstance(expr, sympy.Expr):
            return False
        return bool(_FORMS[form](expr))


def _is_factored(expr: Expression) -> bool:
    factors = sympy.Mul.make_args(sympy.expand_power_base(expr))
    return all(_is_irreducible(factor.as_base_exp()[0]) for factor in factors)


def _is_irreducible(factor: Expression) -> bool:
    if not factor.free_symbols:
        return True
    content, parts = sympy.factor_list(factor)
    return abs(content) == 1 and len(parts) == 1 and parts[0][1] == 1


def _is_unexpanded(node: Expression) -> bool:
    """A product with a sum, or a whole power of a sum."""
    has_sum = any(isinstance(part, sympy.Add) and part.free_symbols for part in node.args)
    is_power = isinstance(node, sympy.Pow) and node.exp.is_integer and node.exp.is_positive
    return has_sum and (isinstance(node, sympy.Mul) or bool(is_power))


_FORMS = {
    "factored": _is_factored,
    "expanded": lambda expr: not any(map(_is_unexpanded, sympy.preorder_traversal(expr))),
    "simplified": lambda expr: sympy.count_ops(expr) <= sympy.count_ops(sympy.simplify(expr)),
}


def _is_zero(difference: Expression) -> bool:
    """Probing refutes (cheap, so first); expansion, simplification or math-verify must prove."""
    if not _vanishes_at_probes(difference):
        return False
    if sympy.expand(difference.doit()) == 0:
        return True
    return sympy.simplify(difference) == 0 or _is_verified(difference, sympy.Integer(0))


def _vanishes_at_probes(difference: Expression) -> bool:
    """False when the difference is visibly non-zero at a point where it is defined and real."""
    symbols = sorted(difference.free_symbols, key=str)
    complex_counts = difference.has(sympy.I)
    for probe in range(_NUM_PROBES if symbols else 1):
        point = {symbol: _probe_value(probe, i) for i, symbol in enumerate(symbols)}
        value = sympy.N(difference.subs(point), _PROBE_DIGITS, maxn=200)
        if not value.is_number or value.is_finite is False or value.has(sympy.nan, sympy.zoo):
            continue
        if (complex_counts or value.is_real) and abs(value) > _TOLERANCE:
            return False
    return True


def _probe_value(probe: int, symbol: int) -> Expression:
    """Fixed pseudo-random rationals of both signs between 1/8 and 4, the same on every machine."""
    numerator = 17 + (1103515245 * (probe * 31 + symbol * 7 + 1) + 12345) % 487
    return sympy.Rational(numerator * (1 if probe % 4 else -1), 127)


def _is_verified(gold_expr: Expression, expr: Expression) -> bool:
    if isinstance(gold_expr, sympy.Expr) != isinstance(expr, sympy.Expr):
        return False
    return bool(verify(gold_expr, expr, timeout_seconds=None, raise_on_error=True))


def _difference(equation: str, error: Callable[[str], ValueError]) -> Expression:
    left, right = (_parse(side, error) for side in sides(equation))
    return left - right


def _gold(text: str) -> Expression:
    return _parse(text, UnreadableGold)


def _answer(text: str) -> Expression:
    return _parse(text, UnreadableAnswer)


@lru_cache(maxsize=4096)
def _parse(text: str, error: Callable[[str], ValueError]) -> Expression:
    """Reads LaTeX; `i` is the imaginary unit.

    Raises:
        ValueError: What `error` makes, when the parser fails in any way.
    """
    try:
        expr = latex2sympy(
            without_text_commands(text),
            normalization_config=_NORMALIZATION,
            conversion_config=_CONVERSION,
        )
    except MemoryError:
        raise
    except Exception as cause:  # the grammar raises bare Exception on bad input
        raise error(f"cannot parse {text[:80]!r}") from cause
    if not isinstance(expr, sympy.Basic):
        raise error(f"{text[:80]!r} is not an expression")
    return expr.subs(sympy.Symbol("i"), sympy.I)
