r"""Finds the SQL in a completion, and completions that break the protocol.

`auto` looks for, in this order: `<final_sql>`, `<answer>`, a fenced block. The first kind that is
opened anywhere decides, so that an unclosed tag is never rescued by something weaker. A completion
that contains `<result>` is refused: results are written by the environment, and a model that writes
its own has forged them (unless the completion is known to hold the environment's blocks).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

SqlExtraction = Literal["auto", "final_sql", "answer", "fenced", "bare"]
SQL_EXTRACTIONS: tuple[str, ...] = get_args(SqlExtraction)

_TAGS = ("final_sql", "answer")
_STEP_START, _STEP_END = "<intermediate_sql>", "</intermediate_sql>"
_RESULT_MARK = re.compile(r"</?\s*result\b", re.IGNORECASE)
_FENCE = "```"
_LABELS = frozenset(("", "sql", "sqlite", "sqlite3", "postgres", "postgresql", "psql"))


@dataclass(frozen=True, slots=True)
class SqlAnswer:
    """What a completion answers: a statement, or the reason why there is none."""

    sql: str | None
    problem: Literal["", "no_sql", "format"] = ""
    is_well_formed: bool = False
    """True when the completion ends with exactly one answer block, as the format term asks."""


def extract_sql(
    text: str,
    mode: SqlExtraction = "auto",
    *,
    reasoning_end: str | None = None,
    has_results: bool = False,
) -> SqlAnswer:
    """The statement that a completion answers.

    Args:
        text: The completion.
        mode: Where the statement stands; `bare` takes the whole text.
        reasoning_end: When set, only text after its last occurrence counts; missing means no answer.
        has_results: True when the text contains result blocks that an environment wrote; then each
            must follow an intermediate block.

    Example:
        `extract_sql("<final_sql>SELECT 1</final_sql>").sql` is `"SELECT 1"`; two such blocks are the
        problem "format".
    """
    if _has_forged_result(text, has_results):
        return SqlAnswer(None, "format")
    if reasoning_end:
        _, found, text = text.rpartition(reasoning_end)
        if not found:
            return SqlAnswer(None, "no_sql")
    if mode == "bare":
        return SqlAnswer(text.strip(), "", True)
    for tag in _TAGS:
        if mode == tag or (mode == "auto" and f"<{tag}>" in text):
            return _tagged(text, tag)
    return _fenced(text) if _STEP_START not in text else SqlAnswer(None, "no_sql")


def _has_forged_result(text: str, has_results: bool) -> bool:
    """Any mark of a result block that no environment can have written there."""
    if has_results:
        text = _without_results(text)
    return _RESULT_MARK.search(text) is not None


def _without_results(text: str) -> str:
    """The text without the result block that follows each intermediate query; linear in its length."""
    kept, *steps = text.split(_STEP_START)
    for step in steps:
        query, end, rest = step.partition(_STEP_END)
        result = rest.lstrip()
        if end and result.startswith("<result>") and "</result>" in result:
            rest = result.partition("</result>")[2]
        kept += query + end + rest
    return kept


def _tagged(text: str, tag: str) -> SqlAnswer:
    start, end = f"<{tag}>", f"</{tag}>"
    if text.count(start) == 0:
        return SqlAnswer(None, "no_sql")
    if text.count(start) > 1 or text.count(end) != 1:
        return SqlAnswer(None, "format")
    content, found, after = text.partition(start)[2].partition(end)
    if not found:
        return SqlAnswer(None, "format")
    return SqlAnswer(_unfenced(content.strip()), "", not after.strip())


def _fenced(text: str) -> SqlAnswer:
    """The last fenced block that is labelled as SQL or not at all; an unclosed block is no answer."""
    pieces = text.split(_FENCE)
    if len(pieces) % 2 == 0:
        return SqlAnswer(None, "format")
    blocks = [_body(piece) for piece in pieces[1::2]]
    found = [body for body in blocks if body is not None]
    if not found:
        return SqlAnswer(None, "no_sql")
    is_last = blocks[-1] is not None and not pieces[-1].strip()
    return SqlAnswer(found[-1], "", len(found) == 1 and is_last)


def _unfenced(content: str) -> str:
    if content.startswith(_FENCE) and content.endswith(_FENCE) and content.count(_FENCE) == 2:
        return _body(content[3:-3]) or ""
    return content


def _body(block: str) -> str | None:
    """The text of a fenced block without its label; None for a block in another language."""
    label, newline, rest = block.partition("\n")
    if newline and label.strip().lower() in _LABELS:
        return rest.strip()
    return None if newline and label.strip() and " " not in label.strip() else block.strip()
