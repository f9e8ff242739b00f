"""Answers that are words: text, choice letters, special values, base-n numerals (P13, P14)."""

from __future__ import annotations

import re

from rewards.latex_cleanup import squash, without_text_commands

_SPECIAL = {
    "emptyset": "empty", "\\{\\}": "empty", "nosolution": "empty", "nosolutions": "empty",
    "norealsolution": "empty", "norealsolutions": "empty", "emptyset.": "empty", "none": "empty",
    "infty": "infinity", "infinity": "infinity", "undefined": "undefined", "dne": "undefined",
    "doesnotexist": "undefined", "nullset": "empty",
}  # fmt: skip
_ARTICLES = re.compile(r"^(?:the|a|an)\s+")
_CHOICE = re.compile(r"\s*(?:\(([A-J])\)|([A-J])(?![A-Za-z0-9_^+\-*/=]))(.*)", re.DOTALL)
_SECOND_CHOICE = re.compile(
    r"[\s,;/&).:]*(?:(?:or|and)\s+\(?[A-J]\)?(?![A-Za-z])|\(?[A-J]\)?\s*$)", re.DOTALL
)
_BASE_NUMERAL = re.compile(r"([0-9A-Z]+)_(?:([0-9]{1,2})|\{\s*([0-9]{1,2})\s*\})")


def special_value(text: str) -> str | None:
    r"""Maps synonyms to one name: `\emptyset` and "no solution" are both `empty`.

    Returns:
        `empty`, `infinity`, `-infinity`, `undefined`, or None for everything else.
    """
    text = squash(without_text_commands(text)).casefold().rstrip(".")
    sign = "-" if text.startswith("-") else ""
    name = _SPECIAL.get(text.lstrip("+-").removeprefix("\\") if text != r"\{\}" else text)
    return sign + name if name == "infinity" else None if sign else name


def choice_letter(text: str) -> str | None:
    """The letter of a multiple-choice answer, None when there is none or more than one."""
    match = _CHOICE.fullmatch(without_text_commands(text))
    if match is None:
        return None
    letter = match.group(1) or match.group(2)
    return None if _SECOND_CHOICE.match(match.group(3)) else letter


def same_text(gold: str, pred: str) -> bool:
    """Whole-string equality without case, punctuation at the ends and a leading article."""
    return _plain_words(gold) == _plain_words(pred)


def same_base_numeral(gold: str, pred: str) -> bool:
    """Digits must match; the base may be left out but not differ."""
    gold_digits, gold_base = _numeral(gold)
    digits, base = _numeral(pred)
    return digits == gold_digits and base in ("", gold_base)


def is_base_numeral(text: str) -> bool:
    """True for `1101_2` and `1A_{16}`."""
    return _BASE_NUMERAL.fullmatch(text) is not None and text[:1].isalnum() and text[:1] != "_"


def _numeral(text: str) -> tuple[str, str]:
    match = _BASE_NUMERAL.fullmatch(text.strip())
    if match is None:
        return text.strip(), ""
    return match.group(1), match.group(2) or match.group(3)


def _plain_words(text: str) -> str:
    text = without_text_commands(text).casefold().replace("\\", " ")
    text = " ".join(text.split()).strip(" .,;:!?'\"`()")
    return _ARTICLES.sub("", text)
