r"""Finds the final answer in a completion (policy P1 of docs/rewards.md).

The last opener decides: when the last `\boxed{` never closes, or closes over blank text, there is no
answer, whatever came before. Falling back to an earlier box would pay for truncated completions.
All scans are linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, get_args

ExtractionMode = Literal["boxed", "answer_tag", "gsm8k", "last_number"]
EXTRACTION_MODES: tuple[str, ...] = get_args(ExtractionMode)

_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,8}\{")
_BETWEEN_BOXES = re.compile(r"(?:[\s$,;]|\\[()]|\\text\{\s*(?:and|or)\s*\}|\band\b|\bor\b)*")
_MAX_SEPARATOR_CHARS = 48
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_NUMBER = re.compile(r"-?[0-9][0-9,]*(?:\.[0-9]+)?")


def extract_answer(
    text: str, mode: ExtractionMode = "boxed", reasoning_end: str | None = None
) -> str | None:
    r"""Returns the answer text, or None when there is no well-formed one.

    Args:
        text: The completion.
        mode: `boxed` (last `\boxed` or `\fbox`), `answer_tag` (`<answer>...</answer>`), `gsm8k`
            (`#### ...`), or `last_number` (evaluation of base models only: as a training reward it
            pays for any text that happens to end in the right number).
        reasoning_end: When set, only text after its last occurrence counts; missing means no answer.

    Example:
        `extract_answer("roots \boxed{1} and \boxed{2}")` is `"1, 2"`.
    """
    if reasoning_end:
        _, found, text = text.rpartition(reasoning_end)
        if not found:
            return None
    answer = _EXTRACTORS[mode](text)
    return answer.strip() or None if answer is not None else None


def last_boxed(text: str) -> str | None:
    """The content of the last box; adjacent boxes are joined to one comma-separated list."""
    openers = list(_BOX.finditer(text))
    if not openers:
        return None
    end = _closing_brace(text, openers[-1].end(), len(text))
    if end is None:
        return None
    contents = [text[openers[-1].end() : end]]
    for before, after in zip(reversed(openers[:-1]), reversed(openers[1:]), strict=True):
        joined = _adjacent_content(text, before, after.start())
        if joined is None:
            break
        contents.append(joined)
    if not contents[0].strip():
        return None
    return ", ".join(content.strip() for content in reversed(contents))


def answer_tag(text: str) -> str | None:
    """The text of the last `<answer>` element; a box inside it is opened."""
    _, found, rest = text.rpartition("<answer>")
    content, closed, _ = rest.partition("</answer>")
    if not found or not closed:
        return None
    return last_boxed(content) if _BOX.search(content) else content


def gsm8k_answer(text: str) -> str | None:
    """The rest of the line after the last `####`."""
    _, found, rest = text.rpartition("####")
    return rest.strip().partition("\n")[0] if found else None


def last_number(text: str) -> str | None:
    """The last number literal of the text."""
    found = None
    for match in _NUMBER.finditer(text):
        found = match.group().rstrip(",")
    return found


_EXTRACTORS: dict[str, Callable[[str], str | None]] = {
    "boxed": last_boxed,
    "answer_tag": answer_tag,
    "gsm8k": gsm8k_answer,
    "last_number": last_number,
}


def _adjacent_content(text: str, box: re.Match[str], next_start: int) -> str | None:
    """Content of `box` when only separators stand between it and the box at `next_start`."""
    end = _closing_brace(text, box.end(), next_start)
    if end is None or next_start - end > _MAX_SEPARATOR_CHARS:
        return None
    content = text[box.end() : end]
    adjacent = _BETWEEN_BOXES.fullmatch(text, end + 1, next_start)
    return content if adjacent and content.strip() else None


def _closing_brace(text: str, start: int, stop: int) -> int | None:
    """Index of the brace that closes the group opened just before `start`; escaped ones do not count."""
    depth = 1
    for match in _BRACE.finditer(text, start, stop):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if depth == 0:
            return match.start()
    return None
