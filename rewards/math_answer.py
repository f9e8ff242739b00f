"""Math reward: is the final answer of a completion equal to the reference answer?

Policy and verdicts: docs/rewards.md. Order of work: extraction, guards, exact comparison (no sympy),
and only then algebra. `quick_score` does everything but the algebra and is safe in the training
process; `score` also does the algebra, has no time limit of its own and therefore belongs into a
worker: call `rewards.batch.score_batch`, which uses both.

The three levels follow DCPO, arXiv 2509.02333 appendix A.4: +1 correct, 0 well formed but wrong,
-1 malformed. The defaults (1, 0, 0) are the plain binary reward. Well formed means that an answer was
extracted in the configured format and could be read; so NO_ANSWER, REJECTED and UNPARSEABLE are
malformed, WRONG, TIMEOUT and CRASHED are wrong. A truncated completion is judged by its text: an
answer that was complete before the cut counts, an unclosed box is no answer.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from rewards.answer_check import AnswerCheck
from rewards.answer_kinds import AnswerKind, infer_kind
from rewards.base import Sample, Score, Verdict
from rewards.extraction import (
    EXTRACTION_MODES,
    ExtractionMode,
    extract_answer,
    gsm8k_answer,
    last_boxed,
)
from rewards.guards import guard_violation
from rewards.latex_cleanup import clean
from rewards.scalars import DEFER, Algebra, NeedsAlgebra, Rules, UnreadableAnswer, UnreadableGold

FORMS = ("", "factored", "expanded", "simplified")
_DETAIL_CHARS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class MathAnswerConfig:
    """Settings of `MathAnswer`."""

    extraction: ExtractionMode = "boxed"
    """Where the answer stands: boxed, answer_tag, gsm8k, or last_number (evaluation only)."""
    reasoning_end: str | None = None
    """When set, only text after its last occurrence counts, e.g. "</think>"."""
    answer_column: str = "answer"
    """Column of the data set with the reference; a GSM8K solution or a boxed solution is accepted."""
    value_correct: float = 1.0
    """Score of a correct answer."""
    value_wrong: float = 0.0
    """Score of a well-formed answer that is wrong or could not be verified in time."""
    value_malformed: float = 0.0
    """Score when no readable answer was found; -1 gives the three levels of DCPO."""
    max_answer_chars: int = 512
    """Longer answers are rejected unread."""
    evaluated: Literal["strict", "off"] = "strict"
    """strict: for a rational reference `2+2` is wrong, the model must compute; off: it is evaluated."""
    timeout_s: float = 3.0
    """Wall-clock seconds for the algebra of one answer; then the worker is killed."""

    def __post_init__(self) -> None:
        if self.extraction not in EXTRACTION_MODES:
            raise ValueError(
                f"extraction={self.extraction!r} is unknown; use one of {', '.join(EXTRACTION_MODES)}"
            )
        if self.evaluated not in ("strict", "off"):
            raise ValueError(f"evaluated={self.evaluated!r} is unknown; use strict or off")
        if not self.value_correct > self.value_wrong >= self.value_malformed > -math.inf:
            raise ValueError(
                "value_correct > value_wrong >= value_malformed must hold, got "
                f"{self.value_correct}, {self.value_wrong}, {self.value_malformed}; otherwise a wrong "
                "completion could outscore a correct one"
            )
        if self.max_answer_chars < 1 or not 0 < self.timeout_s < math.inf:
            raise ValueError(
                f"max_answer_chars={self.max_answer_chars} must be at least 1 and "
                f"timeout_s={self.timeout_s} positive and finite"
            )


@dataclass(frozen=True, slots=True)
class _Gold:
    text: str
    kind: AnswerKind


@dataclass(frozen=True, slots=True)
class _Task:
    """Everything that the verdict depends on."""

    answer: str
    gold: _Gold
    rules: Rules


class MathAnswer:
    r"""Judges the final answer against the reference column; see the module docstring.

    Optional columns of the row: `kind` (an `AnswerKind` value), `gold_rounded` (bool), `form`
    (factored, expanded or simplified).

    Example:
        `MathAnswer().score(Sample(completion="so \\boxed{0.5}", reference={"answer": "1/2"}))`
        has value 1.0 and verdict CORRECT.
    """

    name = "math_answer"

    def __init__(self, config: MathAnswerConfig | None = None) -> None:
        self.config = config or MathAnswerConfig()
        self.timeout_s = self.config.timeout_s
        self.failure_value = self.config.value_wrong

    def score(self, sample: Sample) -> Score:
        """Judges completely; may run long in sympy, so call it through `score_batch`."""
        score = self.quick_score(sample)
        if score is not None:
            return score
        from rewards.symbolic import SympyAlgebra  # sympy takes a second to import

        return self._judge(sample, SympyAlgebra())

    def quick_score(self, sample: Sample) -> Score | None:
        """Judges with exact arithmetic and text rules; None when algebra is needed."""
        try:
            return self._judge(sample, DEFER)
        except NeedsAlgebra:
            return None

    def warm_up(self) -> None:
        """Imports and exercises sympy, so that the first sample does not pay for it."""
        from rewards.symbolic import SympyAlgebra

        SympyAlgebra().equal(r"\frac{x}{2}+1", r"1+\frac{x}{2}")

    def dedup_key(self, sample: Sample) -> str:
        """Equal keys have equal scores: the extracted answer and what the row says about it."""
        answer = extract_answer(
            sample.completion, self.config.extraction, self.config.reasoning_end
        )
        row = {name: sample.reference.get(name) for name in ("kind", "gold_rounded", "form")}
        return json.dumps(
            [answer, sample.reference.get(self.config.answer_column), row], default=str
        )

    def reference_problem(self, reference: Mapping[str, Any]) -> str | None:  # row of a data set
        """Why a data-set row cannot be judged, None when it can; for checks when data is loaded."""
        gold = self._gold(reference)
        return gold if isinstance(gold, str) else None

    def _judge(self, sample: Sample, algebra: Algebra) -> Score:
        start = time.perf_counter()
        verdict, detail = self._verdict(sample, algebra)
        seconds = time.perf_counter() - start
        return Score(value=self._value(verdict), verdict=verdict, detail=detail, seconds=seconds)

    def _verdict(self, sample: Sample, algebra: Algebra) -> tuple[Verdict, str]:
        gold = self._gold(sample.reference)
        if isinstance(gold, str):
            return Verdict.BAD_REFERENCE, gold
        answer = extract_answer(
            sample.completion, self.config.extraction, self.config.reasoning_end
        )
        if answer is None:
            return Verdict.NO_ANSWER, ""
        if violation := guard_violation(answer, self.config.max_answer_chars):
            return Verdict.REJECTED, f"guard:{violation}"
        task = _Task(clean(answer), gold, self._rules(sample.reference))
        return _compare(task, algebra), answer[:_DETAIL_CHARS]

    def _gold(self, reference: Mapping[str, Any]) -> _Gold | str:
        """The reference answer, or the reason why it cannot be used."""
        answer = reference.get(self.config.answer_column)
        if isinstance(answer, bool) or not isinstance(answer, str | int | float):
            return (
                f"column {self.config.answer_column!r} holds {type(answer).__name__}, not an answer"
            )
        form = reference.get("form") or ""
        if form not in FORMS:
            return f"form {str(form)[:40]!r} is unknown"
        return _read_gold(
            str(answer), str(reference.get("kind") or ""), self.config.max_answer_chars
        )

    def _rules(self, reference: Mapping[str, Any]) -> Rules:
        return Rules(
            gold_rounded=bool(reference.get("gold_rounded")),
            form=reference.get("form") or "",
            evaluated=self.config.evaluated == "strict",
        )

    def _value(self, verdict: Verdict) -> float | None:
        if verdict is Verdict.BAD_REFERENCE:
            return None
        if verdict is Verdict.CORRECT:
            return self.config.value_correct
        if verdict in (Verdict.NO_ANSWER, Verdict.REJECTED, Verdict.UNPARSEABLE):
            return self.config.value_malformed
        return self.config.value_wrong


REWARD = MathAnswer


@lru_cache(maxsize=65536)
def _read_gold(answer: str, kind: str, max_chars: int) -> _Gold | str:
    found = gsm8k_answer(answer) or last_boxed(answer) or answer
    if violation := guard_violation(found, max_chars):
        return f"guard:{violation}"
    text = clean(found)
    if _is_blank(text):
        return "the reference is empty"
    if not kind:
        return _Gold(text, infer_kind(text, found))
    if kind not in tuple(AnswerKind):
        return f"kind {kind[:40]!r} is unknown"
    return _Gold(text, AnswerKind(kind))


def _compare(task: _Task, algebra: Algebra) -> Verdict:
    if _is_blank(task.answer):
        return Verdict.UNPARSEABLE
    if task.answer == task.gold.text:
        return Verdict.CORRECT
    check = AnswerCheck(task.rules, algebra)
    try:
        is_same = check.same(task.gold.text, task.answer, task.gold.kind)
    except UnreadableGold:  # such a reference counts as text, and the texts differ
        return Verdict.WRONG
    except UnreadableAnswer:
        return Verdict.UNPARSEABLE
    return Verdict.CORRECT if is_same else Verdict.WRONG


def _is_blank(text: str) -> bool:
    """True when the text shows no value at all: nothing, or punctuation only."""
    return not any(mark.isalnum() for mark in text) and text != r"\{\}"
