r"""Number literals as exact rationals: reading (P5) and comparing (P6, P7 of docs/rewards.md).

A literal is a number that needs no computation: integer, decimal, fraction of two literals, mixed
number, `m \times 10^k`, one power of literals, percent, repeating decimal; a unit may follow.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from rewards.units import same_unit, split_unit

MIN_SIGNIFICANT_DIGITS = 6
"""A rounded decimal stands for a non-terminating number only with at least this many digits."""
_MAX_EXPONENT = 64

_NUM = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
_SIGN = r"([+-]?)\s*"
_EXPONENT = r"(?:\{\s*([+-]?\s*[0-9]{1,3})\s*\}|\(\s*([+-]?[0-9]{1,3})\s*\)|([0-9]{1,3}))"
_DECIMAL = re.compile(rf"{_SIGN}({_NUM})")
_FRACTION = re.compile(
    rf"{_SIGN}(?:\\frac\s*\{{\s*([+-]?\s*{_NUM})\s*\}}\s*\{{\s*([+-]?\s*{_NUM})\s*\}}"
    rf"|\(?({_NUM})\)?\s*/\s*\(?([+-]?{_NUM})\)?)"
)
_MIXED = re.compile(
    rf"{_SIGN}([0-9]+)(?:\s*\\frac\s*\{{\s*([0-9]+)\s*\}}\s*\{{\s*([0-9]+)\s*\}}"
    r"|\s+([0-9]+)\s*/\s*([0-9]+))"
)
_SCIENTIFIC = re.compile(rf"{_SIGN}(?:({_NUM})\s*(?:\\times|\\cdot|\*)\s*)10\s*\^\s*{_EXPONENT}")
_E_NOTATION = re.compile(rf"{_SIGN}({_NUM})[eE]([+-]?[0-9]{{1,3}})")
_POWER = re.compile(rf"{_SIGN}(?:({_NUM})|\(\s*([^()]+?)\s*\))\s*\^\s*{_EXPONENT}")
_REPEATING = re.compile(rf"{_SIGN}([0-9]*)\.([0-9]*)\\(?:overline|bar)\s*\{{([0-9]+)\}}")
_INTEGER = re.compile(r"-?[0-9]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberLiteral:
    """An exact number together with how it was written."""

    value: Fraction
    """Exact value as written, percent sign and unit not applied."""
    decimals: int | None = None
    """Decimals shown (may be negative in scientific notation); None unless a decimal literal."""
    significant: int = 0
    """Significant digits shown, 0 unless a decimal literal."""
    unit: str = ""
    """Canonical unit, `%` for percent, "" for none."""

    @property
    def amount(self) -> Fraction:
        """The value with the percent sign applied: 10% is 1/10."""
        return self.value / 100 if self.unit == "%" else self.value


def parse_literal(text: str) -> NumberLiteral | None:
    """Reads a cleaned answer as a number literal; None when it is anything else."""
    if _INTEGER.fullmatch(text):
        return NumberLiteral(value=Fraction(int(text)), decimals=0, significant=len(text))
    core, unit = split_unit(text.strip())
    core = _without_parentheses(core.strip())
    for pattern, read in _READERS:
        if match := pattern.fullmatch(core):
            value, decimals, significant = read(match) or (None, None, 0)
            if value is None:
                return None
            return NumberLiteral(value=value, decimals=decimals, significant=significant, unit=unit)
    return None


def same_number(gold: NumberLiteral, pred: NumberLiteral, *, gold_rounded: bool = False) -> bool:
    """P6 and P7: exact equality, honest decimal approximations, optional percent sign.

    Args:
        gold: The reference.
        pred: The prediction.
        gold_rounded: The reference was rounded by the data set: a prediction is right when it
            rounds (half up) to the reference at the reference's number of decimals.
    """
    if not same_unit(gold.unit, pred.unit):
        return False
    if gold.amount == pred.amount or _same_but_for_percent_sign(gold, pred):
        return True
    if gold_rounded and gold.decimals is not None:
        return round_half_up(pred.value, gold.decimals) == gold.value
    return not _is_finite_decimal(gold.value) and is_honest_decimal(pred, gold.amount)


def is_honest_decimal(pred: NumberLiteral, exact: Fraction) -> bool:
    """True when `pred` equals `exact` rounded or cut at its last shown decimal.

    At least 6 significant digits and one decimal must be shown: an integer is no approximation.
    """
    if not pred.decimals or pred.decimals < 0 or pred.significant < MIN_SIGNIFICANT_DIGITS:
        return False
    shown = pred.decimals + (2 if pred.unit == "%" else 0)
    return pred.amount in (round_half_up(exact, shown), _truncated(exact, shown))


def round_half_up(value: Fraction, decimals: int) -> Fraction:
    """Rounds to `decimals` places, halves away from zero."""
    scale = Fraction(10) ** decimals
    magnitude = Fraction(int(abs(value) * scale + Fraction(1, 2))) / scale
    return -magnitude if value < 0 else magnitude


def _truncated(value: Fraction, decimals: int) -> Fraction:
    scale = Fraction(10) ** decimals
    return Fraction(int(value * scale)) / scale


def _same_but_for_percent_sign(gold: NumberLiteral, pred: NumberLiteral) -> bool:
    if gold.value != pred.value:
        return False
    return gold.unit == "%" or (pred.unit == "%" and abs(gold.value) >= 1)


def _is_finite_decimal(value: Fraction) -> bool:
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def _without_parentheses(text: str) -> str:
    inner = text[1:-1]
    is_wrapped = text[:1] + text[-1:] in ("()", "{}") and not any(mark in inner for mark in "(){},")
    return inner.strip() if is_wrapped else text


_Read = tuple[Fraction, int | None, int] | None


def _signed(sign: str, value: Fraction) -> Fraction:
    return -value if sign == "-" else value


def _number(text: str) -> Fraction:
    text = text.replace(" ", "")
    return Fraction(text + "0" if text.endswith(".") else text)


def _read_decimal(match: re.Match[str]) -> _Read:
    sign, digits = match.groups()
    return (*_decimal_parts(sign, digits, 0),)


def _decimal_parts(sign: str, digits: str, exponent: int) -> tuple[Fraction, int | None, int]:
    fraction = digits.partition(".")[2]
    significant = len(digits.replace(".", "").lstrip("0"))
    value = _signed(sign, _number(digits) * Fraction(10) ** exponent)
    return value, len(fraction) - exponent, significant


def _read_fraction(match: re.Match[str]) -> _Read:
    sign, top, bottom, slash_top, slash_bottom = match.groups()
    return _ratio(sign, Fraction(0), _number(top or slash_top), _number(bottom or slash_bottom))


def _read_mixed(match: re.Match[str]) -> _Read:
    sign, whole, top, bottom, slash_top, slash_bottom = match.groups()
    part, of = _number(top or slash_top), _number(bottom or slash_bottom)
    return _ratio(sign, _number(whole), part, of) if part < of else None


def _ratio(sign: str, whole: Fraction, top: Fraction, bottom: Fraction) -> _Read:
    return (_signed(sign, whole + top / bottom), None, 0) if bottom else None


def _read_scientific(match: re.Match[str]) -> _Read:
    sign, digits, *exponents = match.groups()
    exponent = _exponent(exponents)
    return None if abs(exponent) > _MAX_EXPONENT else _decimal_parts(sign, digits, exponent)


def _read_e_notation(match: re.Match[str]) -> _Read:
    sign, digits, exponent = match.groups()
    return None if abs(int(exponent)) > _MAX_EXPONENT else _decimal_parts(sign, digits, int(exponent))  # fmt: skip


def _read_power(match: re.Match[str]) -> _Read:
    sign, bare, inner, *exponents = match.groups()
    base = parse_literal(bare or inner)
    exponent = _exponent(exponents)
    if base is None or base.unit or (base.value == 0 and exponent <= 0):
        return None
    size = max(abs(base.value.numerator), base.value.denominator)
    if len(str(size)) * abs(exponent) > 4 * _MAX_EXPONENT:
        return None
    return _signed(sign, base.value**exponent), None, 0


def _read_repeating(match: re.Match[str]) -> _Read:
    sign, whole, fixed, period = match.groups()
    head = Fraction(int((whole + fixed) or "0"), 10 ** len(fixed))
    tail = Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(fixed))
    return _signed(sign, head + tail), None, 0


def _exponent(groups: list[str]) -> int:
    return int(next(group for group in groups if group).replace(" ", ""))


_READERS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], _Read]], ...] = (
    (_DECIMAL, _read_decimal),
    (_FRACTION, _read_fraction),
    (_MIXED, _read_mixed),
    (_SCIENTIFIC, _read_scientific),
    (_E_NOTATION, _read_e_notation),
    (_POWER, _read_power),
    (_REPEATING, _read_repeating),
)
