"""Fixed shapes: a chain of k tokens, a tree with given widths or any given tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inference.speculative.draft_tree import ROOT, DraftTree
from inference.speculative.draws import Draw, add_child, draw_new
from inference.speculative.proposing import Growth
from inference.speculative.random_source import RandomSource


@dataclass(frozen=True, slots=True)
class Chain:
    """Drafts up to `length` tokens in a row; one draft forward per token."""

    length: int = 4
    """Longest chain; 0 = do not draft."""
    stop_below: float = 0.0
    """Stop behind a token whose draft probability is below this; the token itself stays."""
    draw: Draw = draw_new
    """`take_best` for a chain of best guesses."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.length < 0:
            raise ValueError(f"length={self.length} is negative; 0 turns drafting off")

    def grow(self, tree: DraftTree, rng: RandomSource, name: str) -> Growth:
        """Add a path below the root."""
        node: int | None = ROOT
        for _ in range(self.length):
            if node is None or not tree.can_grow(node):
                return
            (row,) = yield [node]
            node = add_child(tree, node, row, self.draw, rng=rng, name=name)
            if node is not None and tree.confidence[node] < self.stop_below:
                return


@dataclass(frozen=True, slots=True)
class StaticTree:
    """Drafts a given shape, level by level; one batched draft forward per depth."""

    parents: tuple[int, ...]
    """Parent of each node in creation order, -1 = root; see `parents_of_widths`."""
    draw: Draw = draw_new
    """`take_best` for the most probable children instead of drawn ones."""

    def __post_init__(self) -> None:
        """Check the order of the nodes."""
        for node, parent in enumerate(self.parents):
            if not ROOT <= parent < node:
                raise ValueError(f"parents[{node}]={parent}; a parent must come before its child")

    def grow(self, tree: DraftTree, rng: RandomSource, name: str) -> Growth:
        """Add the shape below the root, as far as the limits and the laws allow."""
        level = {ROOT: ROOT}  # node of the shape -> node of the draft tree
        while True:
            inner = [node for node in level if node in self.parents and tree.can_grow(level[node])]
            if not inner:
                return
            rows = yield [level[node] for node in inner]
            following: dict[int, int] = {}
            for node, row in zip(inner, rows, strict=True):
                children = (i for i, parent in enumerate(self.parents) if parent == node)
                for child in children:
                    if not tree.can_grow(level[node]):
                        break
                    grown = add_child(tree, level[node], row, self.draw, rng=rng, name=name)
                    if grown is not None:
                        following[child] = grown
            level = following


def parents_of_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """Return the parents of the tree in which every node of depth d has `widths[d]` children.

    Example:
        (2, 1) gives (-1, -1, 0, 1): two children of the root with one child each.
    """
    parents: list[int] = []
    level = [ROOT]
    for width in widths:
        first = len(parents)
        parents += [node for node in level for _ in range(width)]
        level = list(range(first, len(parents)))
    return tuple(parents)
