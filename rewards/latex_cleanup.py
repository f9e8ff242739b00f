"""Brings an answer to one spelling without changing its value (policy P3 of docs/rewards.md)."""

from __future__ import annotations

import re

_UNICODE = str.maketrans(
    {
        "\u2212": "-",
        "\u2013": "-",
        "\u2014": "-",
        "\u00d7": r"\times ",
        "\u00f7": "/",
        "\u00b7": r"\cdot ",
        "\u22c5": r"\cdot ",
        "\u03c0": r"\pi ",
        "\u03b8": r"\theta ",
        "\u221a": r"\sqrt ",
        "\u221e": r"\infty ",
        "\u2264": r"\le ",
        "\u2265": r"\ge ",
        "\u2260": r"\ne ",
        "\u222a": r"\cup ",
        "\u2208": r"\in ",
        "\u2205": r"\emptyset ",
        "\u00b1": r"\pm ",
        "\u00b0": r"^{\circ}",
        "\u00b2": "^{2}",
        "\u00b3": "^{3}",
        "\u2248": r"\approx ",
        "\u20ac": r"\euro ",
        "\u00a3": r"\pounds ",
        "\u00a0": " ",
        "\u202f": " ",
        "\u2009": " ",
        "\u2019": "'",
        "\t": " ",
        "\n": " ",
        "\r": " ",
    }
)
_PLAIN = re.compile(r"[0-9a-zA-Z+\-*/ ]*")
_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<=[0-9])(?:\{,\}|\\,)(?=[0-9]{3}(?![0-9]))", ""),
        (r"(?<!\\)\\[,!;:]|~", " "),
        (r"(?<!\\)\\ ", " "),
        (r"\\q?quad(?![a-zA-Z])", " "),
        (r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|limits)(?![a-zA-Z])\s*\.?", ""),
        (r"(?<!\\)\\[()\[\]]", ""),
        (r"(?<!\\)\$", ""),
        (r"\\dollar(?![a-zA-Z])", r"\\$"),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\[dt]binom(?![a-zA-Z])", r"\\binom"),
        (r"\\(?:mathbf|mathit|mathsf|boldsymbol|bm)\s*\{([^{}]*)\}", r"\1"),
        (r"\\(?:mathrm|textbf|textit|textrm|textnormal|texttt|textsf|mbox)\s*\{", r"\\text{"),
        (r"\\text\s*\{\s*,?\s*(and|or)\s*\}|\\(?:lor|vee)(?![a-zA-Z])()", r" \1 "),
        (r"\\text\s*\{\s*,\s*\}", ","),
        (r"\\(?:leqslant|leq|le)(?![a-zA-Z])\s*|<=", r"\\le "),
        (r"\\(?:geqslant|geq|ge)(?![a-zA-Z])\s*|>=", r"\\ge "),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"\\neq(?![a-zA-Z])", r"\\ne"),
        (r"\\varnothing", r"\\emptyset "),
        (r"\\lbrace(?![a-zA-Z])", r"\\{"),
        (r"\\rbrace(?![a-zA-Z])", r"\\}"),
        (r"\\langle(?![a-zA-Z])", "("),
        (r"\\rangle(?![a-zA-Z])", ")"),
        (r"\\degree(?![a-zA-Z])", r"^{\\circ}"),
        (r":=|==", "="),
        (r"\s+", " "),
    )
)
_TOKEN = r"(\\[a-zA-Z]+|[0-9a-zA-Z])"
_FRACTION_FIRST = re.compile(rf"\\frac\s*{_TOKEN}(?=\s*(?:\{{|\\|[0-9a-zA-Z]))")
_FRACTION_SECOND = re.compile(rf"(\\frac\s*\{{[^{{}}]*(?:\{{[^{{}}]*\}}[^{{}}]*)*\}})\s*{_TOKEN}")
_ROOT = re.compile(rf"\\sqrt\s*{_TOKEN}")
_THOUSANDS = re.compile(r"(?<![0-9.,])[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9,])")
_PREFIX = re.compile(r"^(?:\\(?:approx|simeq|sim)(?![a-zA-Z])|=)\s*")
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_WHOLE_GROUP = re.compile(r"(?:\\text\s*)?\{([^{}]*)\}")


def clean(text: str) -> str:
    r"""Returns the answer in canonical spelling; idempotent on what it returns in practice.

    Example:
        `clean(r"\left(\dfrac12, 10\,080\right)")` is `r"(\frac{1}{2}, 10080)"`.
    """
    if _PLAIN.fullmatch(text):
        return text.strip()
    text = text.translate(_UNICODE)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _merge_thousands(_fill_braces(text)).strip()
    text = _PREFIX.sub("", _without_period(text))
    return _unwrapped(text).strip()


def without_text_commands(text: str) -> str:
    r"""Replaces every `\text{...}` by its content."""
    return _TEXT.sub(r"\1", text)


def squash(text: str) -> str:
    """The answer without white space and redundant braces, for a cheap equality test."""
    return re.sub(r"\s+", "", re.sub(r"([_^])\{([0-9a-zA-Z])\}", r"\1\2", text))


def _fill_braces(text: str) -> str:
    r"""Writes the braces that LaTeX lets one leave out: `\frac12`, `\sqrt2`."""
    text = _ROOT.sub(r"\\sqrt{\1}", text)
    text = _FRACTION_FIRST.sub(r"\\frac{\1}", text)
    return _FRACTION_SECOND.sub(r"\1{\2}", text)


def _merge_thousands(text: str) -> str:
    """Removes thousands commas, except inside brackets, where commas separate coordinates."""

    def merged(match: re.Match[str]) -> str:
        is_inside = _bracket_depth(text, match.start()) > 0
        return match.group() if is_inside else match.group().replace(",", "")

    return _THOUSANDS.sub(merged, text)


def _bracket_depth(text: str, end: int) -> int:
    head = text[:end]
    opened = head.count("(") + head.count("[") + head.count(r"\{")
    return opened - head.count(")") - head.count("]") - head.count(r"\}")


def _without_period(text: str) -> str:
    return text[:-1].rstrip() if text.endswith(".") and not text.endswith("..") else text


def _unwrapped(text: str) -> str:
    while match := _WHOLE_GROUP.fullmatch(text):
        text = _without_period(match.group(1).strip())
    return text
