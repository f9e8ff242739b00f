"""Separates a number from its unit and compares units (policy P8 of docs/rewards.md).

A bare single letter is a symbol, never a unit: `2t` is not two tonnes.
"""

from __future__ import annotations

import re

_ALIASES = {
    "centimeter": "cm", "centimetre": "cm", "millimeter": "mm", "millimetre": "mm",
    "meter": "m", "metre": "m", "kilometer": "km", "kilometre": "km", "feet": "foot", "ft": "foot",
    "inche": "inch", "yd": "yard", "mi": "mile", "sec": "second", "s": "second", "min": "minute",
    "hr": "hour", "h": "hour", "kilogram": "kg", "gram": "g", "milligram": "mg", "lb": "pound",
    "oz": "ounce", "liter": "l", "litre": "l", "milliliter": "ml", "millilitre": "ml",
    "deg": "degree", "sq": "square", "cu": "cubic", "gal": "gallon", "usd": "dollar",
    "penny": "cent", "pennie": "cent", "mph": "mile/hour", "kph": "km/hour", "kmh": "km/hour",
    "people": "person",
}  # fmt: skip
_WORD_LIST = """
    cm mm km ft inch foot feet yard mile meter metre centimeter centimetre millimeter millimetre
    kilometer kilometre second sec minute min hour hr day week month year kg kilogram gram mg
    milligram lb pound oz ounce ton tonne liter litre ml milliliter gallon gal quart pint cup
    dollar usd cent euro penny pennie degree deg radian rad mph kph kmh unit square cubic sq cu per
    point percent people person student apple time way page mol joule watt volt newton pascal
"""
_BARE_WORDS = frozenset(_WORD_LIST.split())
_NOT_A_UNIT = frozenset(("or", "and", "not", "either", "maybe", "to", "than", "no", "about"))
_CURRENCY = re.compile(r"^([+-]?)\s*(\\\$|\\euro|\\pounds)\s*")
_CURRENCIES = {r"\$": "dollar", r"\euro": "euro", r"\pounds": "pound_sterling"}
_DEGREE = re.compile(r"\s*\^\s*\{?\s*\\circ\s*\}?\s*(?:\\text\s*\{)?\s*([CF]?)\s*\}?$")
_PERCENT = re.compile(r"\s*(?:\\?%|\\text\s*\{\s*(?:percent|\\?%)\s*\}|percent)$")
_BARE = re.compile(r"(.*?[0-9})])\s*([A-Za-z]{2,}[A-Za-z /^0-9{}]*)", re.DOTALL)
_UNIT_TEXT = re.compile(r"[A-Za-z /^0-9{}.'\-]*")


def split_unit(text: str) -> tuple[str, str]:
    r"""Splits `5\text{ cm}^2` into `("5", "cm^2")`; the unit is "" when there is none.

    Percent is the unit `%`; a currency sign is the unit `dollar`, `euro` or `pound_sterling`.
    """
    if match := _PERCENT.search(text):
        return text[: match.start()], "%"
    if match := _DEGREE.search(text):
        return text[: match.start()], f"degree{match.group(1)}"
    if match := _CURRENCY.match(text):
        core, unit = split_unit(text[match.end() :])
        return match.group(1) + core, _CURRENCIES[match.group(2)] if unit in ("", "dollar") else "?"
    start = text.find(r"\text")
    if start > 0:
        return _split_text_unit(text, start)
    match = _BARE.fullmatch(text)
    if match and _is_known(match.group(2)):
        return match.group(1), canonical_unit(match.group(2))
    return text, ""


def same_unit(first: str, second: str) -> bool:
    """True when the units agree or at least one side has none."""
    return not first or not second or first == second


def canonical_unit(text: str) -> str:
    """Singular, power-normalised unit: `square feet` and `ft^2` both become `foot^2`."""
    text = re.sub(r"[{}.']", "", text).casefold().replace(" per ", "/").replace("^ ", "^")
    return "/".join(_product(part.split()) for part in text.split("/"))


def _split_text_unit(text: str, start: int) -> tuple[str, str]:
    unit = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text[start:]).replace(r"\cdot", " ").strip()
    words = set(re.findall(r"[a-z]+", unit.casefold()))
    core = text[:start].strip()
    is_unit = _UNIT_TEXT.fullmatch(unit) and not unit[:1].isdigit() and len(words) <= 5
    return (core, canonical_unit(unit)) if is_unit and not words & _NOT_A_UNIT else (text, "")


def _is_known(unit: str) -> bool:
    words = re.findall(r"[a-z]+", unit.casefold())
    return all(
        _BARE_WORDS & {word, word.removesuffix("s"), word.removesuffix("es")} for word in words
    )


def _product(words: list[str]) -> str:
    power = {"square": "^2", "cubic": "^3", "squared": "^2", "cubed": "^3"}
    marks = "".join(power.get(_singular(word), "") for word in words)
    names = [_singular(word) for word in words]
    return " ".join(name for name in names if name not in power) + marks


def _singular(word: str) -> str:
    name, caret, exponent = word.partition("^")
    for candidate in (name, name.removesuffix("es"), name.removesuffix("s")):
        if candidate in _ALIASES or candidate in _BARE_WORDS:
            return _ALIASES.get(candidate, candidate) + caret + exponent
    return (name.removesuffix("s") if len(name) > 3 else name) + caret + exponent
