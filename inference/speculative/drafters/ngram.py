"""N-gram lookup: copy what followed the last few tokens when they occurred before in this text.

"Prompt lookup decoding": for g = g_max .. g_min find an earlier occurrence of the last g tokens, copy the
next k tokens. Differences from transformers: the most recent match is used, not the leftmost; longer
n-grams are tried first; an index makes a lookup independent of the text length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inference.speculative.draft_tree import ROOT, DraftTree
from inference.speculative.drafters.base import LawKind, append_candidates
from inference.speculative.proposing import Proposing, no_queries
from inference.speculative.random_source import RandomSource


@dataclass(frozen=True, slots=True, kw_only=True)
class NgramConfig:
    """How long a match must be and how much is copied."""

    max_ngram: int = 4
    """g_max: longest n-gram that is looked up."""
    min_ngram: int = 2
    """g_min: shortest one."""
    length: int = 8
    """k: tokens copied."""
    confidence: float = 0.5
    """Acceptance estimate of a copied token that controllers see, in [0, 1]."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 1 <= self.min_ngram <= self.max_ngram:
            raise ValueError(
                f"min_ngram={self.min_ngram} and max_ngram={self.max_ngram}: expected "
                "1 <= min_ngram <= max_ngram"
            )
        if self.length < 1 or not 0.0 <= self.confidence <= 1.0:
            raise ValueError(
                f"length={self.length} must be at least 1 and confidence={self.confidence} in [0, 1]"
            )


class NgramDrafter:
    """Copies from the request's own text."""

    name = "ngram"
    law_kind: LawKind = "point"

    def __init__(self, config: NgramConfig | None = None) -> None:
        self.config = config or NgramConfig()
        self._text: list[int] = []
        self._next_of: dict[tuple[int, ...], int] = {}  # n-gram -> where its latest continuation is

    def begin(self, context: Sequence[int]) -> None:
        """Index the prompt."""
        self.reset()
        self.commit(context)

    def propose(self, tree: DraftTree, rng: RandomSource) -> Proposing:
        """Add one path below the root."""
        copied = self.lookup()
        append_candidates(tree, ROOT, copied, [self.config.confidence] * len(copied), self.name)
        return no_queries()

    def commit(self, token_ids: Sequence[int]) -> None:
        """Index the n-grams that end in front of each new token."""
        for token in token_ids:
            for gram in self._endings():
                self._next_of[gram] = len(self._text)
            self._text.append(token)

    def reset(self) -> None:
        """Forget text and index."""
        self._text = []
        self._next_of = {}

    def lookup(self) -> list[int]:
        """Return the tokens that followed the longest n-gram that occurred before."""
        for gram in self._endings():
            start = self._next_of.get(gram)
            if start is not None:
                return self._text[start : start + self.config.length]
        return []

    def _endings(self) -> list[tuple[int, ...]]:
        """Return the n-grams at the end of the text, the longest first."""
        longest = min(self.config.max_ngram, len(self._text))
        sizes = range(longest, self.config.min_ngram - 1, -1)
        return [tuple(self._text[-size:]) for size in sizes]


DRAFTER = NgramDrafter
