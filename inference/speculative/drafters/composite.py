"""Several drafters grow one tree, one after the other.

Later drafters see what is there: lookup paths go through existing nodes, drawn children exclude existing
siblings, DySpec weighs its slots against theirs. Each token keeps its own law, so the output stays exact.
Put free drafters (lookup) first: what they leave of the budget goes to the model.
"""

from __future__ import annotations

from collections.abc import Sequence

from inference.speculative.draft_tree import DraftTree
from inference.speculative.drafters.base import Drafter, LawKind
from inference.speculative.proposing import Proposing
from inference.speculative.random_source import RandomSource


class CompositeDrafter:
    """Asks its drafters in order."""

    name = "composite"

    def __init__(self, drafters: Sequence[Drafter]) -> None:
        if not drafters:
            raise ValueError("a composite needs at least one drafter; pass none to decode plainly")
        self._drafters = tuple(drafters)
        kinds = {drafter.law_kind for drafter in drafters}
        self.law_kind: LawKind = kinds.pop() if len(kinds) == 1 else "mixed"

    def begin(self, context: Sequence[int]) -> None:
        """Start all drafters."""
        for drafter in self._drafters:
            drafter.begin(context)

    def propose(self, tree: DraftTree, rng: RandomSource) -> Proposing:
        """Let each drafter add to the tree in turn."""
        for drafter in self._drafters:
            yield from drafter.propose(tree, rng)

    def commit(self, token_ids: Sequence[int]) -> None:
        """Tell all drafters."""
        for drafter in self._drafters:
            drafter.commit(token_ids)

    def reset(self) -> None:
        """Reset all drafters."""
        for drafter in self._drafters:
            drafter.reset()


DRAFTER = CompositeDrafter
