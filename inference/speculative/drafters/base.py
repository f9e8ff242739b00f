"""The contract of drafters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

from inference.speculative.draft_tree import DraftTree
from inference.speculative.laws import POINT
from inference.speculative.proposing import Proposing
from inference.speculative.random_source import RandomSource

LawKind = Literal["point", "row", "mixed"]
"""point: all tokens are chosen; row: drawn from a row; mixed: some of each."""


@runtime_checkable
class Drafter(Protocol):
    """What `inference/speculative/drafters/<name>.py` provides; it names its class in `DRAFTER`.

    An instance serves one request at a time. Life: begin, then propose and commit in turn, then reset.
    """

    name: str
    """Written into `tree.source`."""
    law_kind: LawKind
    """What stands in `tree.law` for its tokens."""

    def begin(self, context: Sequence[int]) -> None:
        """Start a request whose committed tokens are `context` (the prompt, at least one token)."""
        ...

    def propose(self, tree: DraftTree, rng: RandomSource) -> Proposing:
        """Add nodes to the tree within its limits; yields whenever logits are needed.

        The tree may already hold nodes of other drafters. Every token goes in with the law it was really
        drawn from, and stays. An empty proposal is fine.
        """
        ...

    def commit(self, token_ids: Sequence[int]) -> None:
        """Take note of the tokens that the step emitted, whatever had been proposed."""
        ...

    def reset(self) -> None:
        """Forget the request. What was learnt about text in general may stay."""
        ...


def append_candidates(
    tree: DraftTree, node: int, token_ids: Sequence[int], confidences: Sequence[float], name: str
) -> int:
    """Put chosen tokens below `node` as a path of point masses; returns the last node of the path.

    Where a child with the token is there already, the path goes through it. Stops at the tree's limits.
    """
    for token, confidence in zip(token_ids, confidences, strict=True):
        tokens = tree.child_tokens(node)
        if token in tokens:
            node = tree.children(node)[tokens.index(token)]
        elif tree.can_grow(node):
            node = tree.append(node, token, POINT, source=name, confidence=confidence)
        else:
            break
    return node
