"""The contract of controllers that shape a draft tree, and estimates of what will be accepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from inference.speculative.draft_tree import ROOT, DraftTree
from inference.speculative.proposing import Growth
from inference.speculative.random_source import RandomSource


@runtime_checkable
class TreeController(Protocol):
    """Decides where the next draft token goes."""

    def grow(self, tree: DraftTree, rng: RandomSource, name: str) -> Growth:
        """Add nodes to the tree within its limits.

        The tree may already hold nodes of other drafters. What is drawn next may depend on all tokens
        drawn so far; nothing that was drawn is ever removed.

        Args:
            tree: Grown in place.
            rng: Random source of the draft.
            name: Written into `tree.source`.

        Yields:
            Nodes whose laws are needed; the laws are sent back in the same order.
        """
        ...


Estimate = Callable[[DraftTree, int], float]
"""Estimated probability in [0, 1] that a node is accepted once it is judged."""


def confidence_estimate(tree: DraftTree, node: int) -> float:
    """Return the drafter's own probability of the token: DySpec's uncalibrated estimate."""
    return tree.confidence[node]


def reach_probs(tree: DraftTree, estimate: Estimate) -> tuple[list[float], dict[int, float]]:
    """Return how likely each node is accepted, and how likely each open slot is reached.

    Returns:
        A list [N]: estimated probability that the node becomes output; its sum is the expected number of
        accepted draft tokens. And a dictionary from node (-1 = root) to the probability that the accept rule
        arrives there and rejects all its children: the value of one more child.
    """
    accepted = [0.0] * len(tree)
    slots = {ROOT: 1.0}
    for node, parent in enumerate(tree.parent):
        prob = min(1.0, max(0.0, estimate(tree, node)))
        accepted[node] = slots[parent] * prob
        slots[node] = accepted[node]
        slots[parent] *= 1.0 - prob
    return accepted, slots
