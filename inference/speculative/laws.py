"""Laws over the vocabulary, the law a draft token was drawn from, and what a rejection leaves over.

Symbols of the literature: target law p = `target_probs`, law of the drafter q = `draft_probs`, R = what
is left of the target law after the rejections so far = `residual`, d = the law of one proposal.

Shapes: V vocabulary. Laws are float64 arrays [V] that sum to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Probs = NDArray[np.float64]
"""A law over the vocabulary: [V] float64, not negative, sum 1."""

ROUNDING = 1e-12
"""A residual with less mass than this is rounding noise."""


@dataclass(frozen=True, slots=True)
class PointLaw:
    """The token was chosen, not drawn: top-k, n-gram, cached or sibling text."""


POINT = PointLaw()


@dataclass(frozen=True, slots=True, eq=False)
class RowLaw:
    """The token was drawn from a row, without the tokens that siblings had taken before.

    Example:
        RowLaw((.5, .2, .1, .2), removed=(0,)).probs is (0, .4, .2, .4).
    """

    row: Probs
    """[V] law of the drafter at the parent."""
    removed: tuple[int, ...] = ()
    """Tokens that could not be drawn; empty when siblings are drawn with replacement."""

    @property
    def probs(self) -> Probs:
        """[V] the law the token was really drawn from."""
        return without(self.row, self.removed) if self.removed else self.row


ProposalLaw = PointLaw | RowLaw
"""The conditional law of one draft token, given everything that was known when it was drawn."""


def without(law: Probs, token_ids: tuple[int, ...]) -> Probs:
    """Return norm(law with the given tokens set to 0), all zeros if nothing is left."""
    rest = law.copy()
    rest[list(token_ids)] = 0.0
    total = rest.sum()
    return rest / total if total > ROUNDING else np.zeros_like(law)


def accept_prob(residual: Probs, token_id: int, law: ProposalLaw) -> float:
    """Return min(1, R[y] / d[y]): with what probability the proposal becomes output."""
    left = float(residual[token_id])
    if left <= 0.0 or isinstance(law, PointLaw):
        return max(left, 0.0)
    drawn = float(law.probs[token_id])
    return 1.0 if left >= drawn else left / drawn


def after_rejection(residual: Probs, token_id: int, law: ProposalLaw) -> Probs:
    """Return norm((R - d)+), the law of the output given that the proposal was rejected.

    If no mass is left, only rounding can have rejected the proposal, and R is returned unchanged.
    """
    if isinstance(law, PointLaw):
        rest = residual.copy()
        rest[token_id] = 0.0
    else:
        rest = np.maximum(residual - law.probs, 0.0)
    total = rest.sum()
    return rest / total if total > ROUNDING else residual


def overlap(target_probs: Probs, draft_probs: Probs) -> float:
    """Return sum min(p, q): the probability that one draw from q is accepted; equals 1 - TV."""
    return float(np.minimum(target_probs, draft_probs).sum())


def entropy(law: Probs) -> float:
    """Return -sum p log p in nats."""
    positive = law[law > 0.0]
    return float(-(positive * np.log(positive)).sum())


def expected_chain_tokens(accept: float, length: int) -> float:
    """Return (1 - a^(k+1)) / (1 - a): tokens per target forward of a chain, bonus token included.

    Args:
        accept: Probability a in [0, 1] that a draft token is accepted, the same at each position.
        length: Number k of drafted tokens.
    """
    return float(sum(accept**j for j in range(length + 1)))
