"""When a path stops: the tests of TreePO (arXiv 2508.17445, section 2) in their order.

1. repetition, if `repetition_first`; 2. a complete answer, as `box_mode` demands -> FINISHED;
3. EOS -> EOS; 4. response length -> MAX_TOKENS; 5. depth -> MAX_SEGMENTS; 6. repetition -> REPETITION;
otherwise the path goes deeper.

Differences from the released code:
* the box is read with a brace counter (any nesting) and may span a segment boundary;
* with `box_mode: eos` the box may stand in any segment of the response that ends with EOS;
* an EOS that is the first token of a segment is seen.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rollout.tree import FinishReason

_BRACE_TOKEN = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)

AnswerTest = Callable[[str], bool]
"""Takes the response text; True if it holds a complete answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopConfig:
    """Which signs end a path."""

    box_mode: Literal["eos", "first", "off"] = "eos"
    """How a complete answer counts: 'eos' names a response FINISHED if EOS ends it, 'first' ends the
    path at the first segment that completes an answer, 'off' ignores answers."""
    repetition_chars: int = 32
    """Length in characters of the repeated substring."""
    repetition_count: int = 8
    """Occurrences (overlapping ones count) in one segment that make it repetitive; 0 = test off."""
    repetition_first: bool = False
    """Test repetition before everything else instead of last."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.box_mode not in ("eos", "first", "off"):
            raise ValueError(f"box_mode={self.box_mode!r} is unknown; use eos, first or off")
        if self.repetition_chars < 1:
            raise ValueError(f"repetition_chars={self.repetition_chars} must be at least 1")
        if self.repetition_count < 0 or self.repetition_count == 1:
            raise ValueError(
                f"repetition_count={self.repetition_count} must be 0 (off) or at least 2; "
                "every text contains each of its substrings once"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class StopView:
    """What the stop tests see of a path after its newest segment."""

    segment_text: str
    """Text of the newest segment."""
    response_text: str
    """Text of the whole response, newest segment included."""
    has_eos: bool
    """True if the newest segment contains an end-of-sequence token, at any position."""
    num_tokens: int
    """Length of the response in tokens."""
    num_segments: int
    """Segments of the response."""


def finish_reason(
    view: StopView,
    config: StopConfig,
    *,
    max_tokens: int,
    max_segments: int,
    has_answer: AnswerTest | None = None,
) -> FinishReason | None:
    """Why the path stops after its newest segment, or None if it goes deeper.

    Args:
        view: The path.
        config: Which signs count.
        max_tokens: Limit of the response in tokens.
        max_segments: Limit of the depth.
        has_answer: What a complete answer is; None: `has_closed_box`.
    """
    repeats = config.repetition_count > 0 and is_repetitive(
        view.segment_text, config.repetition_chars, config.repetition_count
    )
    if repeats and config.repetition_first:
        return FinishReason.REPETITION
    if _is_finished(view, config, has_answer or has_closed_box):
        return FinishReason.FINISHED
    if view.has_eos:
        return FinishReason.EOS
    if view.num_tokens >= max_tokens:
        return FinishReason.MAX_TOKENS
    if view.num_segments >= max_segments:
        return FinishReason.MAX_SEGMENTS
    return FinishReason.REPETITION if repeats else None


def has_closed_box(text: str) -> bool:
    r"""True if `text` holds a \boxed{...} whose closing brace is there; escaped braces do not count.

    One pass with a stack of the open braces, so that a text of many unclosed boxes costs no more.
    """
    opened: list[bool] = []
    for match in _BRACE_TOKEN.finditer(text):
        token = match.group()
        if token[-1] == "{" and (token == "{" or token.startswith("\\boxed")):
            opened.append(token != "{")
        elif token == "}" and opened and opened.pop():
            return True
    return False


def is_repetitive(text: str, num_chars: int = 32, count: int = 8) -> bool:
    """True if some substring of `num_chars` characters occurs at least `count` times, overlaps included.

    Example: "x" * 39 is (8 windows of 32), "x" * 38 is not.
    """
    num_windows = len(text) - num_chars + 1
    if num_windows < count:
        return False
    windows = Counter(text[start : start + num_chars] for start in range(num_windows))
    return max(windows.values()) >= count


def _is_finished(view: StopView, config: StopConfig, has_answer: AnswerTest) -> bool:
    if config.box_mode == "off" or (config.box_mode == "eos" and not view.has_eos):
        return False
    return has_answer(view.response_text)
