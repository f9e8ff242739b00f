"""Turns and observations between text and tokens: where a turn ends, what an observation looks like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rollout.envs.base import TurnFormat

Decode = Callable[[Sequence[int]], str]
"""Token ids to text, special tokens left out."""
Encode = Callable[[str], Sequence[int]]
"""Text to token ids; adds no special token and reads none in the text."""

_CHARS_PER_TOKEN = 64
"""More characters than this per allowed token are dropped before an observation is tokenised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnd:
    """Where the model's turn ends."""

    num_tokens: int
    """Tokens of the newest segment that belong to the turn; the last one completes its end."""
    action: str | None
    """Text of the turn up to its end, None: the model wrote a forbidden tag."""


def find_turn_end(
    before: Sequence[int],
    tokens: Sequence[int],
    *,
    num_seen: int,
    turns: TurnFormat,
    decode: Decode,
) -> TurnEnd | None:
    """The first token of `tokens` with which an action or a forbidden tag is complete.

    The text of the whole turn is looked at, so a tag may span tokens and segments. Tokens are never
    split: what the completing token holds beyond the tag stays with the model's tokens.

    Args:
        before: Tokens of the turn in earlier segments.
        tokens: Tokens of the newest segment.
        num_seen: Leading tokens of `tokens` that were looked at before, without a find.
        turns: The format.
        decode: Token ids to text.
    """
    if _end_in(decode([*before, *tokens]), turns) is None:
        return None
    for length in range(num_seen + 1, len(tokens) + 1):
        text = decode([*before, *tokens[:length]])
        end = _end_in(text, turns)
        if end is not None:
            is_action, at = end
            return TurnEnd(num_tokens=length, action=text[:at] if is_action else None)
    return None


def _end_in(text: str, turns: TurnFormat) -> tuple[bool, int] | None:
    """(is an action, index behind it) of the first end in `text`; a forbidden tag counts as one."""
    action = turns.action_end.find(text)
    own = text if action is None else text[:action]
    if any(tag in own for tag in turns.forbidden):
        return False, 0
    return None if action is None else (True, action)


class ObservationEncoder:
    """Turns what an environment says into tokens, at most `max_tokens`, frame included."""

    def __init__(self, turns: TurnFormat, encode: Encode, max_tokens: int) -> None:
        self._turns = turns
        self._encode = encode
        self._max_tokens = max_tokens
        num_frame = len(encode(self._framed(turns.cut_mark)))
        if num_frame > max_tokens:
            raise ValueError(
                f"rollout.env.max_observation_tokens={max_tokens} does not even hold the frame "
                f"and the cut mark, {num_frame} tokens; raise it"
            )

    def encode(self, text: str) -> tuple[int, ...]:
        """Tokens of an observation: neutralised, framed, cut if it is too long."""
        clean = neutralised(text, self._turns)
        limit = _CHARS_PER_TOKEN * self._max_tokens
        if len(clean) <= limit:
            ids = tuple(self._encode(self._framed(clean)))
            if len(ids) <= self._max_tokens:
                return ids
        return self._cut(clean[:limit])

    def _cut(self, text: str) -> tuple[int, ...]:
        """The longest beginning of `text` that fits with the mark, by bisection over characters."""
        low, high = 0, len(text)
        best = tuple(self._encode(self._framed(self._turns.cut_mark)))
        while low < high:
            middle = (low + high + 1) // 2
            ids = tuple(self._encode(self._framed(text[:middle] + self._turns.cut_mark)))
            if len(ids) <= self._max_tokens:
                low, best = middle, ids
            else:
                high = middle - 1
        return best

    def _framed(self, text: str) -> str:
        return f"{self._turns.observation_open}{text}{self._turns.observation_close}"


def neutralised(text: str, turns: TurnFormat) -> str:
    """`text` without tags of the protocol and without lone surrogates.

    Example: with the reserved tag `<sql>`, "a<sql>b" becomes "a&lt;sql>b".
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    for tag in (*turns.forbidden, *turns.reserved):
        text = text.replace(tag, "&lt;" + tag[1:])
    return text
