"""SuffixCorpus: texts in which the continuations of a context's ending can be counted.

Same counts as a suffix tree of limited depth, with memory linear in the text: an index from the last two
tokens to all places behind them, whose match lengths are found by reading backwards.

    texts    5 1 8 2 9        context ... 1 8
               5 1 8 3        places behind "1 8": text 0 at 3 (match 3 with "5 1 8"), text 1 at 3
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

Place = tuple[int, int]
"""(text, position of the token that comes next)."""


@dataclass(slots=True, eq=False)
class SuffixCorpus:
    """A growing set of texts. May be shared by the requests of one prompt."""

    max_places: int = 512
    """Most recent occurrences that are kept per pair of tokens."""
    texts: list[list[int]] = field(default_factory=list)
    _behind: dict[tuple[int, int], deque[Place]] = field(default_factory=dict)

    def add(self, token_ids: Sequence[int]) -> int:
        """Add a text and return its number."""
        self.texts.append([])
        self.extend(len(self.texts) - 1, token_ids)
        return len(self.texts) - 1

    def extend(self, text: int, token_ids: Sequence[int]) -> None:
        """Append tokens to a text."""
        tokens = self.texts[text]
        for token in token_ids:
            tokens.append(token)
            if len(tokens) >= 2:
                places = self._behind.setdefault(
                    (tokens[-2], tokens[-1]), deque(maxlen=self.max_places)
                )
                places.append((text, len(tokens)))

    def matches(self, context: Sequence[int], max_match: int) -> list[tuple[int, Place]]:
        """Return (match length, place) of every occurrence of the context's last two tokens.

        Places without a next token are left out. The match length is at least 2, at most `max_match`.
        """
        if len(context) < 2:
            return []
        places = self._behind.get((context[-2], context[-1]), ())
        return [
            (self._match_length(context, place, max_match), place)
            for place in places
            if place[1] < len(self.texts[place[0]])
        ]

    def token_at(self, place: Place, offset: int) -> int | None:
        """Return the token `offset` behind a place, None behind the end of its text."""
        text, position = place
        tokens = self.texts[text]
        return tokens[position + offset] if position + offset < len(tokens) else None

    def _match_length(self, context: Sequence[int], place: Place, max_match: int) -> int:
        text, end = place
        tokens = self.texts[text]
        longest = min(max_match, len(context), end)
        length = 2
        while length < longest and tokens[end - 1 - length] == context[-1 - length]:
            length += 1
        return length
