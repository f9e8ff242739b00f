"""Refuses answers that would be expensive or dangerous to parse (policy P2 of docs/rewards.md).

Every check is linear in the length of the text and looks at characters only; nothing is evaluated.
The same guards run on references, so a reference that fails is a bad row, not a lost sample.
"""

from __future__ import annotations

import math
import re

MAX_DEPTH = 24
MAX_DIGITS = 64
MAX_ELEMENTS = 64
MAX_POWER_DIGITS = 30
MAX_SYMBOLIC_EXPONENT = 4096
MAX_FACTORIAL = 200

_COMMAND_NAMES = """
    frac dfrac tfrac cfrac sqrt boxed fbox text textbf textit textrm textnormal texttt textsf mbox
    mathrm mathbf mathit mathsf mathcal mathbb mathscr boldsymbol bm operatorname
    left right big Big bigg Bigg bigl bigr Bigl Bigr displaystyle textstyle limits
    quad qquad cdot times div pm mp ast star circ degree cdots ldots dots colon
    le leq leqslant ge geq geqslant lt gt ne neq approx simeq sim equiv cong propto
    in notin cup cap setminus backslash emptyset varnothing infty to rightarrow Rightarrow implies
    mid vert lvert rvert Vert lVert rVert langle rangle lfloor rfloor lceil rceil lbrace rbrace
    overline bar hat vec widehat overrightarrow underline dot ddot prime
    pi alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi
    rho sigma tau upsilon phi varphi chi psi omega Delta Theta Lambda Xi Pi Sigma Phi Psi Omega
    sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log exp lg min max gcd lcm
    sum prod int lim binom dbinom tbinom choose bmod pmod mod angle triangle perp parallel
    land lor vee wedge forall exists neg Re Im begin end hline pounds euro dollar
"""
_COMMANDS = frozenset(_COMMAND_NAMES.split())
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_DEPTH = re.compile(r"[{(\[]|[})\]]")
_LONG_NUMBER = re.compile(rf"[0-9]{{{MAX_DIGITS + 1}}}")
_POWER = re.compile(r"(?:([0-9.]+)|([)}])|(\S))\s*\^\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|[0-9]+|.)")
_TOWER = re.compile(r"\^\s*[0-9.]+\s*\^|\^\s*\{[^{}a-zA-Z]*\^|\^\s*\{[^{}]*\}\s*\^")
_INTEGER = re.compile(r"-?[0-9]+")
_FACTORIAL = re.compile(r"([0-9]+)\s*!|\\[dt]?binom\s*\{?\s*([0-9]+)")
_NESTED_FACTORIAL = re.compile(r"![\s)}]*!")


def guard_violation(text: str, max_chars: int = 512) -> str | None:
    """Names the first limit that the answer breaks, or returns None when it may be parsed.

    Returns:
        One of `length`, `depth`, `digits`, `elements`, `command`, `power`, `factorial`, or None.
    """
    if len(text) > max_chars:
        return "length"
    if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS:
        return None
    for name, is_broken in _CHECKS:
        if is_broken(text):
            return name
    return None


def _is_too_deep(text: str) -> bool:
    depth = 0
    for match in _DEPTH.finditer(text):
        depth += 1 if match.group() in "{([" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def _has_long_number(text: str) -> bool:
    return _LONG_NUMBER.search(text) is not None


def _has_many_elements(text: str) -> bool:
    return 1 + sum(text.count(mark) for mark in ",;&") + text.count(" or ") > MAX_ELEMENTS


def _has_unknown_command(text: str) -> bool:
    return any(name not in _COMMANDS for name in _COMMAND.findall(text))


def _has_big_power(text: str) -> bool:
    if _TOWER.search(text):
        return True
    return any(_is_big_power(match) for match in _POWER.finditer(text))


def _is_big_power(match: re.Match[str]) -> bool:
    base, _, _, raised = match.groups()
    exponent = raised.strip("{} ")
    if not _INTEGER.fullmatch(exponent):
        return False
    size = abs(int(exponent))
    if base is None or not base.strip("."):
        return size > MAX_SYMBOLIC_EXPONENT
    digits = base.replace(".", "").lstrip("0") or "1"
    return size * max(math.log10(int(digits)), len(base) - 1 if "." in base else 0) > (
        MAX_POWER_DIGITS
    )


def _has_big_factorial(text: str) -> bool:
    arguments = (int(factorial or binomial) for factorial, binomial in _FACTORIAL.findall(text))
    return bool(_NESTED_FACTORIAL.search(text)) or any(n > MAX_FACTORIAL for n in arguments)


_CHECKS = (
    ("depth", _is_too_deep),
    ("digits", _has_long_number),
    ("elements", _has_many_elements),
    ("command", _has_unknown_command),
    ("power", _has_big_power),
    ("factorial", _has_big_factorial),
)
