"""From drawn tokens to text that may be sent: incremental decoding and stop strings.

    token ids -> IncrementalDecoder -> text whose characters are complete
              -> StopStrings        -> text that cannot be part of a stop string
              -> TextStream         -> both, for one answer

What is released does not depend on how the tokens were grouped: everything works token by token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]
"""Text of a run of token ids, special tokens removed."""

_REPLACEMENT = "\ufffd"  # what a decoder writes for bytes that are no complete character


class IncrementalDecoder:
    """Decodes a growing answer; joined pieces equal the text of all its tokens.

    Each piece is the difference between two decodings of a short window that begins at the piece
    before: some tokenizers drop the space before the first word of whatever they decode.

    Example: the bytes of one Euro sign as three tokens give "", "", "<Euro sign>".
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._num_sent = 0  # tokens of the window whose text was released

    def push(self, token_id: int) -> str:
        """Text that became complete with this token, possibly empty."""
        self._window.append(token_id)
        sent, text = self._texts()
        if len(text) <= len(sent) or text.endswith(_REPLACEMENT):
            return ""
        self._window = self._window[self._num_sent :]
        self._num_sent = len(self._window)
        return text[len(sent) :]

    def finish(self) -> str:
        """The rest: at the end of an answer also the bytes of an incomplete character."""
        sent, text = self._texts()
        self._num_sent = len(self._window)
        return text[len(sent) :]

    def _texts(self) -> tuple[str, str]:
        return self._decode(self._window[: self._num_sent]), self._decode(self._window)


class StopStrings:
    """Lets text through until one of the stop strings appears, and cuts before it.

    Text that may turn out to be the beginning of a stop string is held back. Of several stop
    strings, the one that is complete first wins; at the same character, the longest.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.has_matched = False

    def push(self, text: str) -> str:
        """Text that may be sent, given `text` as what follows the previous call."""
        released = ""
        for character in text:
            if self.has_matched:
                break
            released += self._push_character(character)
        return released

    def finish(self) -> str:
        """Text still held back; no stop string will come any more."""
        held, self._held = self._held, ""
        return held

    def _push_character(self, character: str) -> str:
        text = self._held + character
        complete = [stop for stop in self._stop if text.endswith(stop)]
        if complete:
            self.has_matched = True
            self._held = ""
            return text[: len(text) - max(map(len, complete))]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


class TextStream:
    """Text of one answer while its tokens arrive."""

    def __init__(self, decode: Decode, stop: Sequence[str] = ()) -> None:
        self._decoder = IncrementalDecoder(decode)
        self._stop = StopStrings(stop)
        self.num_decoded = 0
        """Characters decoded so far, those held back included."""

    @property
    def has_stopped(self) -> bool:
        """True once a stop string is complete; further text is dropped."""
        return self._stop.has_matched

    def push(self, token_id: int) -> str:
        """Text that may be sent after this token."""
        return self._release(self._decoder.push(token_id))

    def finish(self) -> str:
        """The rest of the text; call it once, at the end of the answer."""
        return self._release(self._decoder.finish()) + self._stop.finish()

    def _release(self, text: str) -> str:
        self.num_decoded += len(text)
        return self._stop.push(text)


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
