"""Lists, sets and tuples (policy P9 of docs/rewards.md).

Elements are compared by a callback, so that an element may be anything. Unordered comparison is a
maximum bipartite matching: sorting would need an order that respects "equal", which does not exist
when 0.333333 and 1/3 may both stand for one element.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Same = Callable[[str, str], bool]
"""`same(gold_element, predicted_element)`."""

_OPENING = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
_SCAN = re.compile(r"[()\[\]{}]|[,;]|(?<![a-zA-Z\\])(?:or|and)(?![a-zA-Z])")
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![a-zA-Z])\s*")
_ASSIGNMENT = re.compile(r"\s*(\\?[a-zA-Z]+(?:_(?:[0-9a-zA-Z]|\{[^{}]*\}))?)\s*=([^=<>]+)")


def split_elements(text: str) -> list[str]:
    """Splits at top-level commas, semicolons, "and" and "or"; empty elements are dropped."""
    parts, depth, start = [], 0, 0
    for match in _SCAN.finditer(text):
        step = _OPENING.get(match.group())
        if step is not None:
            depth += step
        elif depth == 0:
            parts.append(text[start : match.start()])
            start = match.end()
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def elements_of(text: str) -> list[str]:
    r"""Elements of a list in any notation, with `a \pm b` written out.

    `1,2`, `\{1,2\}`, `(1,2)` and `[1,2]` all give `["1", "2"]`.
    """
    inner = inside(text, r"\{", r"\}") or inside(text, "(", ")") or inside(text, "[", "]")
    if inner is not None and (text.startswith("\\") or len(split_elements(inner)) > 1):
        text = inner
    return [variant for part in split_elements(text) for variant in expand_plus_minus(part)]


def expand_plus_minus(text: str) -> list[str]:
    r"""`3 \pm x` gives `3 + x` and `3 - x`; all signs of one element move together."""
    if not _PLUS_MINUS.search(text):
        return [text]
    return [_with_signs(text, "+", "-"), _with_signs(text, "-", "+")]


def _with_signs(text: str, plus_minus: str, minus_plus: str) -> str:
    text = re.sub(r"\\pm(?![a-zA-Z])\s*", plus_minus, text)
    return re.sub(r"\\mp(?![a-zA-Z])\s*", minus_plus, text).lstrip("+").strip()


def is_list(text: str) -> bool:
    """True when the text shows more than one value, or braces around values."""
    if inside(text, r"\{", r"\}") is not None or _PLUS_MINUS.search(text):
        return True
    inner = inside(text, "[", "]")
    return len(split_elements(text)) > 1 or (inner is not None and len(split_elements(inner)) > 2)


def tuple_parts(text: str) -> list[str] | None:
    """Coordinates of `(a, b, ...)`, None for anything else."""
    inner = inside(text, "(", ")")
    parts = split_elements(inner) if inner is not None else []
    return parts if len(parts) > 1 else None


def same_list(gold: str, pred: str, same: Same) -> bool:
    """Unordered comparison with multiplicity; assignments to different names compare by name."""
    gold_parts, parts = elements_of(gold), elements_of(pred)
    if len(gold_parts) != len(parts):
        return False
    gold_names, names = _assignments(gold_parts), _assignments(parts)
    if gold_names is not None and len(gold_names) > 1:
        return _same_assignments(gold_names, names, parts, same)
    return is_matching([value_of(part) for part in gold_parts], [value_of(p) for p in parts], same)


def same_tuple(gold: str, pred: str, same: Same) -> bool:
    """Ordered comparison; the parentheses may be missing, other brackets may not replace them."""
    gold_parts = tuple_parts(gold)
    assert gold_parts is not None, f"{gold!r} is not a tuple"
    if inside(pred, r"\{", r"\}") is not None or inside(pred, "[", "]") is not None:
        return False
    parts = tuple_parts(pred) or split_elements(pred)
    return len(parts) == len(gold_parts) and all(
        same(value_of(gold_part), value_of(part))
        for gold_part, part in zip(gold_parts, parts, strict=True)
    )


def is_matching(golds: Sequence[str], preds: Sequence[str], same: Same) -> bool:
    """True when the two multisets can be paired so that every pair is equal."""
    owner: dict[int, int] = {}

    def finds_partner(gold_index: int, seen: set[int]) -> bool:
        for index, pred in enumerate(preds):
            if index in seen or not same(golds[gold_index], pred):
                continue
            seen.add(index)
            if index not in owner or finds_partner(owner[index], seen):
                owner[index] = gold_index
                return True
        return False

    return len(golds) == len(preds) and all(finds_partner(i, set()) for i in range(len(golds)))


def value_of(text: str) -> str:
    """The right side of `name = value`, or the text itself."""
    match = _ASSIGNMENT.fullmatch(text)
    return match.group(2).strip() if match else text


def inside(text: str, opening: str, closing: str) -> str | None:
    """Text between the brackets when they are a pair that encloses everything."""
    text = text.strip()
    if len(text) < len(opening) + len(closing) or not text.startswith(opening):
        return None
    if not text.endswith(closing):
        return None
    inner, depth = text[len(opening) : -len(closing)], 0
    for mark in inner:
        depth += _OPENING.get(mark, 0)
        if depth < 0:
            return None
    return inner


def _assignments(parts: Sequence[str]) -> dict[str, str] | None:
    """Values by name, None unless every part is an assignment to a name of its own."""
    matches = [_ASSIGNMENT.fullmatch(part) for part in parts]
    values = {match.group(1): match.group(2).strip() for match in matches if match}
    return values if len(values) == len(parts) else None


def _same_assignments(
    golds: dict[str, str], preds: dict[str, str] | None, parts: Sequence[str], same: Same
) -> bool:
    if preds is None:
        pairs = zip(golds.values(), parts, strict=True)
        return all(same(gold, pred) for gold, pred in pairs)
    return golds.keys() == preds.keys() and all(same(golds[name], preds[name]) for name in golds)
