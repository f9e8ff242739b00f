"""How a drafter takes the next child of a node from its row, and the law that this child then has.

| function | child | law |
|---|---|---|
| draw_new | drawn, never a sibling's token (DySpec, Sequoia) | row without the siblings |
| draw_any | drawn, siblings may repeat (SpecInfer) | row |
| take_best | the most probable token no sibling has (top-k) | point mass |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from inference.speculative.draft_tree import DraftTree
from inference.speculative.laws import POINT, Probs, ProposalLaw, RowLaw
from inference.speculative.random_source import RandomSource


@dataclass(frozen=True, slots=True)
class Proposal:
    """One token, the law it came from, and the drafter's probability of it."""

    token_id: int
    law: ProposalLaw
    confidence: float


Draw = Callable[[Probs, tuple[int, ...], RandomSource], Proposal | None]
"""(row of the parent, tokens of earlier siblings, random source) -> proposal; None = nothing is left."""


def draw_new(row: Probs, siblings: tuple[int, ...], rng: RandomSource) -> Proposal | None:
    """Draw without replacement: the law is the row without the earlier siblings."""
    law = RowLaw(row, siblings)
    probs = law.probs
    if not probs.any():
        return None
    token = rng.categorical(probs)
    return Proposal(token, law, float(probs[token]))


def draw_any(row: Probs, siblings: tuple[int, ...], rng: RandomSource) -> Proposal | None:
    """Draw with replacement: the law is the row itself."""
    token = rng.categorical(row)
    return Proposal(token, RowLaw(row), float(row[token]))


def take_best(row: Probs, siblings: tuple[int, ...], rng: RandomSource) -> Proposal | None:
    """Take the most probable token that is not there yet; the law is a point mass."""
    probs = RowLaw(row, siblings).probs
    if not probs.any():
        return None
    token = int(np.argmax(probs))
    return Proposal(token, POINT, float(probs[token]))


def add_child(
    tree: DraftTree, node: int, row: Probs, draw: Draw, *, rng: RandomSource, name: str
) -> int | None:
    """Draw the next child of `node` and append it; None if nothing is left to draw."""
    proposal = draw(row, tree.child_tokens(node), rng)
    if proposal is None:
        return None
    return tree.append(
        node, proposal.token_id, proposal.law, source=name, confidence=proposal.confidence
    )
