"""DySpec: grow the draft tree where acceptance is most likely (arXiv 2410.11744, algorithm 1).

A *slot* is a place for the next child of a node; its value estimates the probability that the accept
rule gets there. The budget form always fills the most valuable slot; the threshold form fills all slots of
value at least C, level by level, so one draft forward serves a whole depth.

Differences from the paper:

* the estimate of acceptance is a parameter, see `calibration.py`; the paper's is the draft probability;
* a node's row is asked for when its first child is drawn, so leaves cost no draft forward;
* slots with value below the threshold are not filled (the printed comparison is reversed);
* the tree may start with nodes of other drafters: their slots compete too.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from inference.speculative.controllers.base import Estimate, confidence_estimate, reach_probs
from inference.speculative.draft_tree import DraftTree
from inference.speculative.draws import Draw, add_child, draw_new
from inference.speculative.laws import Probs
from inference.speculative.proposing import Growth
from inference.speculative.random_source import RandomSource


@dataclass(frozen=True, slots=True)
class DySpec:
    """Fills the most valuable slot until the budget is used; one draft forward per inner node."""

    budget: int = 16
    """Nodes to add, if the limits of the tree allow."""
    estimate: Estimate = confidence_estimate
    """Probability that a drawn token will be accepted."""
    draw: Draw = draw_new
    """`take_best` for chosen instead of drawn children."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.budget < 0:
            raise ValueError(f"budget={self.budget} is negative; 0 turns drafting off")

    def grow(self, tree: DraftTree, rng: RandomSource, name: str) -> Growth:
        """Pop the best slot (ties: the one pushed first), fill it, push next sibling and first child."""
        _, slots = reach_probs(tree, self.estimate)
        heap = [(-value, order, node) for order, (node, value) in enumerate(slots.items())]
        heapq.heapify(heap)
        pushed, num_left = len(heap), self.budget
        rows: dict[int, Probs] = {}
        while heap and num_left:
            negative, _, node = heapq.heappop(heap)
            if not tree.can_grow(node):
                continue
            if node not in rows:
                (rows[node],) = yield [node]
            child = add_child(tree, node, rows[node], self.draw, rng=rng, name=name)
            if child is None:
                continue
            num_left -= 1
            prob = _clipped(self.estimate(tree, child))
            for value, place in ((-negative * (1.0 - prob), node), (-negative * prob, child)):
                if value > 0.0:
                    heapq.heappush(heap, (-value, pushed, place))
                    pushed += 1


@dataclass(frozen=True, slots=True)
class DySpecThreshold:
    """Fills every slot of value at least `threshold`; one batched draft forward per depth."""

    threshold: float = 1.0 / 16.0
    """C in (0, 1]; about 1/budget. The node count is capped by the limits of the tree."""
    estimate: Estimate = confidence_estimate
    """Probability that a drawn token will be accepted."""
    draw: Draw = draw_new
    """`take_best` for chosen instead of drawn children."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0.0 < self.threshold <= 1.0:
            raise ValueError(f"threshold={self.threshold} is outside (0, 1]; try 1/budget")

    def grow(self, tree: DraftTree, rng: RandomSource, name: str) -> Growth:
        """Fill level after level, the most valuable slots first."""
        _, slots = reach_probs(tree, self.estimate)
        level = self._worthwhile(slots.items(), tree)
        while level:
            rows = yield [node for node, _ in level]
            filled: list[tuple[int, float]] = []
            for (node, value), row in zip(level, rows, strict=True):
                while value >= self.threshold and tree.can_grow(node):
                    child = add_child(tree, node, row, self.draw, rng=rng, name=name)
                    if child is None:
                        break
                    prob = _clipped(self.estimate(tree, child))
                    filled.append((child, value * prob))
                    value *= 1.0 - prob
            level = self._worthwhile(filled, tree)

    def _worthwhile(
        self, slots: Iterable[tuple[int, float]], tree: DraftTree
    ) -> list[tuple[int, float]]:
        kept = [slot for slot in slots if slot[1] >= self.threshold and tree.can_grow(slot[0])]
        return sorted(kept, key=lambda slot: -slot[1])


def _clipped(prob: float) -> float:
    return min(1.0, max(0.0, prob))
