"""Suffix lookup: continue as most of the matching texts did (SuffixDecoding, arXiv 2411.04975).

Corpora: the request's own text (prompt included) and, optionally, a shared one with siblings and earlier
rollouts of the same prompt. From all places whose text matches the end of the context in at least m tokens,
the next token is the most frequent one; the product of relative frequencies is the acceptance estimate.
The draft ends where the product falls below `min_prob` or where it is as long as `length_factor` times the
match. Of all match lengths m the one with the largest sum of products is used (ties: the longest).

Tokens are point masses. So a sibling's text may be used: for any fixed draft the new sample has the
target law and does not depend on the sibling. With a ratio of stored probabilities it would be copied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from inference.speculative.draft_tree import ROOT, DraftTree
from inference.speculative.drafters.base import LawKind, append_candidates
from inference.speculative.proposing import Proposing, no_queries
from inference.speculative.random_source import RandomSource
from inference.speculative.suffix_corpus import Place, SuffixCorpus


@dataclass(frozen=True, slots=True, kw_only=True)
class SuffixConfig:
    """Thresholds of the draft."""

    max_match: int = 24
    """Longest ending of the context that is compared."""
    min_match: int = 2
    """Shortest match that is used."""
    min_prob: float = 0.1
    """Stop where the product of relative frequencies falls below this."""
    length_factor: float = 1.0
    """Longest draft in units of the match length."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 2 <= self.min_match <= self.max_match:
            raise ValueError(
                f"min_match={self.min_match} and max_match={self.max_match}: expected "
                "2 <= min_match <= max_match"
            )
        if not 0.0 <= self.min_prob <= 1.0 or self.length_factor <= 0.0:
            raise ValueError(
                f"min_prob={self.min_prob} must be in [0, 1] and length_factor="
                f"{self.length_factor} positive"
            )


@dataclass(frozen=True, slots=True)
class SuffixDraft:
    """A proposed continuation with the relative frequency of each token."""

    token_ids: tuple[int, ...] = ()
    frequencies: tuple[float, ...] = ()
    score: float = 0.0
    """Expected number of accepted tokens: sum of the products of frequencies."""


class SuffixDrafter:
    """Continues as earlier text did; own text and a shared corpus are counted separately."""

    name = "suffix"
    law_kind: LawKind = "point"

    def __init__(
        self, config: SuffixConfig | None = None, shared: SuffixCorpus | None = None
    ) -> None:
        self.config = config or SuffixConfig()
        self._shared = shared
        self._own = SuffixCorpus()

    def begin(self, context: Sequence[int]) -> None:
        """Index the prompt."""
        self.reset()
        self.commit(context)

    def propose(self, tree: DraftTree, rng: RandomSource) -> Proposing:
        """Add the best continuation of either corpus as a path below the root."""
        draft = self.lookup()
        append_candidates(tree, ROOT, draft.token_ids, draft.frequencies, self.name)
        return no_queries()

    def commit(self, token_ids: Sequence[int]) -> None:
        """Add to the own text. Finished texts enter the shared corpus by `SuffixCorpus.add`."""
        self._own.extend(0, token_ids)

    def reset(self) -> None:
        """Forget the own text; the shared corpus stays."""
        self._own = SuffixCorpus(texts=[[]])

    def lookup(self) -> SuffixDraft:
        """Return the continuation with the best score; empty if nothing matches."""
        context = self._own.texts[0]
        corpora = [self._own] if self._shared is None else [self._shared, self._own]
        drafts = [draft for c in corpora for draft in self._drafts(c, context)]
        return max(drafts, key=lambda draft: draft.score, default=SuffixDraft())

    def _drafts(self, corpus: SuffixCorpus, context: Sequence[int]) -> Iterable[SuffixDraft]:
        """One draft per match length, the longest match first."""
        matches = corpus.matches(context, self.config.max_match)
        lengths = {length for length, _ in matches if length >= self.config.min_match}
        for shortest in sorted(lengths, reverse=True):
            places = [place for length, place in matches if length >= shortest]
            yield self._most_frequent(corpus, places, int(shortest * self.config.length_factor))

    def _most_frequent(
        self, corpus: SuffixCorpus, places: list[Place], max_length: int
    ) -> SuffixDraft:
        tokens: list[int] = []
        frequencies: list[float] = []
        score, product = 0.0, 1.0
        while len(tokens) < max_length:
            followers = [(corpus.token_at(place, len(tokens)), place) for place in places]
            counts = Counter(token for token, _ in followers if token is not None)
            if not counts:
                break
            token = min(counts, key=lambda t: (-counts[t], t))
            frequency = counts[token] / len(places)
            if product * frequency < self.config.min_prob:
                break
            product *= frequency
            score += product
            tokens.append(token)
            frequencies.append(frequency)
            places = [place for follower, place in followers if follower == token]
        return SuffixDraft(tuple(tokens), tuple(frequencies), score)


DRAFTER = SuffixDrafter
