"""Intervals, unions and solved inequalities (policy P10 of docs/rewards.md).

Only solved forms are read: a lone variable on one side (or in the middle of a chain) and constants
elsewhere. `2x < 6` is the problem handed back, not its solution, and gives no region.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from rewards.numbers_exact import parse_literal
from rewards.sequences import Same, inside, split_elements
from rewards.words import special_value

_VARIABLE = re.compile(r"\\?[a-zA-Z]+(?:_(?:[0-9a-zA-Z]|\{[^{}]*\}))?")
_NOT_VARIABLES = frozenset((r"\pi", r"\infty", "e", "i"))
_RELATION = re.compile(r"(<|>|\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|\\ne(?![a-zA-Z]))")
_UNION = re.compile(r"\\cup(?![a-zA-Z])|(?<![a-zA-Z\\])or(?![a-zA-Z])|,(?=[^()\[\]]*[<>])")
_MEMBER = re.compile(r"^(.*?)\\in(?![a-zA-Z])(.*)$", re.DOTALL)
_FREE_LETTER = re.compile(r"\\[a-zA-Z]+|[a-df-zA-Z]")
_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
_CONSTANT_COMMANDS = frozenset((r"\frac", r"\sqrt", r"\pi", r"\infty", r"\cdot", r"\times"))

Endpoint = Fraction | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One piece of a region; the endpoints keep the text they were written with."""

    low: str
    high: str
    low_closed: bool = False
    high_closed: bool = False


@dataclass(frozen=True, slots=True)
class Region:
    """A union of intervals, and the variable it constrains when one was written."""

    pieces: tuple[Interval, ...]
    variable: str = ""


def is_interval_notation(text: str) -> bool:
    """True when the text cannot be a tuple: relation, membership, union, brackets, infinity."""
    if _RELATION.search(text) or r"\cup" in text or _MEMBER.match(text):
        return True
    interval = _bracketed(text)
    if interval is None:
        return False
    infinite = any(
        "infinity" in (special_value(end) or "") for end in (interval.low, interval.high)
    )
    return infinite or not text.startswith("(") or not text.endswith(")")


def parse_region(text: str) -> Region | None:
    """Reads an interval, a union, a membership or a solved inequality; None for anything else."""
    member = _MEMBER.match(text)
    variable, text = (member.group(1).strip(), member.group(2)) if member else ("", text)
    pieces: list[Interval] = []
    for part in _UNION.split(text):
        region = _parse_piece(part.strip())
        if region is None or (variable and region.variable and variable != region.variable):
            return None
        variable = variable or region.variable
        pieces.extend(region.pieces)
    return Region(_merged(pieces), variable)


def same_region(gold: str, pred: str, same: Same) -> bool:
    """Equal sets: pieces merged on both sides, then paired; closedness is exact."""
    gold_region, region = parse_region(gold), parse_region(pred)
    if gold_region is None or region is None:
        return False
    if gold_region.variable and region.variable and gold_region.variable != region.variable:
        return False
    left = list(region.pieces)
    for piece in gold_region.pieces:
        match = next((other for other in left if _same_piece(piece, other, same)), None)
        if match is None:
            return False
        left.remove(match)
    return not left


def endpoint_value(text: str) -> Endpoint | None:
    """Exact value of an endpoint, infinite ones as float, None when it is not a literal."""
    special = special_value(text)
    if special in ("infinity", "-infinity"):
        return float(special.replace("infinity", "inf"))
    literal = parse_literal(text)
    return literal.amount if literal else None


def _parse_piece(text: str) -> Region | None:
    if _RELATION.search(text):
        return _parse_relation(text)
    point = inside(text, r"\{", r"\}")
    if point is not None:
        points = split_elements(point)
        return Region(tuple(Interval(low=p, high=p, low_closed=True, high_closed=True) for p in points))  # fmt: skip
    interval = _bracketed(text)
    return Region((interval,)) if interval else None


def _bracketed(text: str) -> Interval | None:
    text = text.strip()
    if text[:1] not in ("(", "[") or text[-1:] not in (")", "]"):
        return None
    parts = split_elements(text[1:-1])
    if len(parts) != 2 or text[1:-1].count("(") != text[1:-1].count(")"):
        return None
    low_closed, high_closed = text.startswith("["), text.endswith("]")
    return Interval(low=parts[0], high=parts[1], low_closed=low_closed, high_closed=high_closed)


def _parse_relation(text: str) -> Region | None:
    terms = [term.strip() for term in _RELATION.split(text)]
    if len(terms) == 3:
        return _two_sided(*terms)
    if len(terms) != 5 or not _is_variable(terms[2]):
        return None
    low, first, variable, second, high = terms
    if first in (">", r"\ge"):
        low, first, second, high = high, _FLIPPED.get(second, ""), _FLIPPED.get(first, ""), low
    if first not in ("<", r"\le") or second not in ("<", r"\le") or not _are_constants(low, high):
        return None
    interval = Interval(
        low=low, high=high, low_closed=first == r"\le", high_closed=second == r"\le"
    )
    return Region((interval,), variable)


def _two_sided(left: str, relation: str, right: str) -> Region | None:
    if not _is_variable(left):
        left, relation, right = right, _FLIPPED.get(relation, relation), left
    if not _is_variable(left) or not _are_constants(right):
        return None
    return Region(_half_lines(relation, right), left)


def _half_lines(relation: str, bound: str) -> tuple[Interval, ...]:
    below = Interval(low=r"-\infty", high=bound, high_closed=relation == r"\le")
    above = Interval(low=bound, high=r"\infty", low_closed=relation == r"\ge")
    if relation == r"\ne":
        return (below, above)
    return (below,) if relation in ("<", r"\le") else (above,)


def _is_variable(text: str) -> bool:
    return _VARIABLE.fullmatch(text) is not None and text not in _NOT_VARIABLES


def _are_constants(*texts: str) -> bool:
    return all(
        text and all(found in _CONSTANT_COMMANDS for found in _FREE_LETTER.findall(text))
        for text in texts
    )


def _merged(pieces: Sequence[Interval]) -> tuple[Interval, ...]:
    """Joins overlapping and touching pieces when every endpoint is a literal."""
    values = [(endpoint_value(piece.low), endpoint_value(piece.high)) for piece in pieces]
    if any(low is None or high is None for low, high in values):
        return tuple(pieces)
    merged: list[Interval] = []
    for piece in sorted(pieces, key=lambda piece: (_value(piece.low), not piece.low_closed)):
        if merged and _touches(merged[-1], piece):
            merged[-1] = _joined(merged[-1], piece)
        else:
            merged.append(piece)
    return tuple(merged)


def _value(text: str) -> Endpoint:
    value = endpoint_value(text)
    assert value is not None, f"{text!r} is not a literal endpoint"
    return value


def _touches(first: Interval, second: Interval) -> bool:
    end, start = _value(first.high), _value(second.low)
    return start < end or (start == end and (first.high_closed or second.low_closed))


def _joined(first: Interval, second: Interval) -> Interval:
    reach = max(first, second, key=lambda piece: (_value(piece.high), piece.high_closed))
    return Interval(
        low=first.low,
        low_closed=first.low_closed,
        high=reach.high,
        high_closed=reach.high_closed,
    )


def _same_piece(gold: Interval, pred: Interval, same: Same) -> bool:
    return _same_end(gold.low, gold.low_closed, pred.low, pred.low_closed, same) and _same_end(
        gold.high, gold.high_closed, pred.high, pred.high_closed, same
    )


def _same_end(gold: str, gold_closed: bool, pred: str, pred_closed: bool, same: Same) -> bool:
    special = special_value(gold)
    if special is not None:
        return special == special_value(pred)
    return gold_closed == pred_closed and same(gold, pred)
