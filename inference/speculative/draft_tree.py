"""DraftTree: the tokens proposed in one decoding step, with the law each one was drawn from.

Shapes: N draft-tree nodes. Nodes are numbered in the order in which they were drawn; -1 is the root,
the newest committed token, which is not a node.

    committed ... root          token   7  3  7  5      visible    0 1 2 3
                   |- 0: 7      parent -1 -1  0  0               0 x
                   |   |- 2: 7  depth   1  1  2  2               1   x
                   |   `- 3: 5  order   0  1  0  1               2 x   x
                   `- 1: 3                                       3 x     x
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inference.speculative.laws import PointLaw, ProposalLaw

ROOT = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftLimits:
    """How large the draft tree of a request may become in this step."""

    max_nodes: int
    """Budget: nodes in the tree, 0 = do not draft."""
    max_depth: int | None = None
    """Longest path; the tokens still wanted minus 1 is enough. None = no limit."""
    stop_token_ids: frozenset[int] = frozenset()
    """Nothing is drafted behind these."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.max_nodes < 0:
            raise ValueError(f"max_nodes={self.max_nodes} is negative; 0 turns drafting off")
        if self.max_depth is not None and self.max_depth < 0:
            raise ValueError(f"max_depth={self.max_depth} is negative; None = no limit")


@dataclass(slots=True, eq=False)
class DraftTree:
    """Proposed tokens as a tree; only an accept rule turns them into output.

    Always true: a parent comes before its children; depth is the parent's plus 1; siblings are listed
    in draw order; there is nothing below a stop token. A drawn token stays in the tree: dropping or
    re-sorting nodes because of their values makes the output biased.
    """

    limits: DraftLimits
    token: list[int] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    """Node, or -1 for the root."""
    depth: list[int] = field(default_factory=list)
    """Children of the root have depth 1."""
    law: list[ProposalLaw] = field(default_factory=list)
    """From what each token was really drawn."""
    source: list[str] = field(default_factory=list)
    """Name of the drafter, for statistics."""
    confidence: list[float] = field(default_factory=list)
    """The drafter's own probability of the token: d[y] if drawn, its frequency if looked up."""
    _children: dict[int, list[int]] = field(default_factory=lambda: {ROOT: []})

    def __len__(self) -> int:
        return len(self.token)

    def append(
        self, parent: int, token: int, law: ProposalLaw, *, source: str, confidence: float
    ) -> int:
        """Add the next child of `parent` and return its node number."""
        assert self.can_grow(parent), f"node {parent} cannot have a child: {self.limits}"
        node = len(self.token)
        self.token.append(token)
        self.parent.append(parent)
        self.depth.append(self.depth_of(parent) + 1)
        self.law.append(law)
        self.source.append(source)
        self.confidence.append(confidence)
        self._children[parent].append(node)
        self._children[node] = []
        return node

    def can_grow(self, node: int) -> bool:
        """Whether a child may be added below `node`."""
        has_room = len(self.token) < self.limits.max_nodes
        max_depth = self.limits.max_depth
        is_shallow = max_depth is None or self.depth_of(node) < max_depth
        return has_room and is_shallow and not self.is_stop(node)

    def is_stop(self, node: int) -> bool:
        """Whether the node carries a stop token; the root never does."""
        return node != ROOT and self.token[node] in self.limits.stop_token_ids

    def depth_of(self, node: int) -> int:
        """Return the depth of a node, 0 for the root."""
        return 0 if node == ROOT else self.depth[node]

    def children(self, node: int) -> Sequence[int]:
        """Return the children of a node (or of the root, -1) in draw order."""
        return self._children[node]

    def child_tokens(self, node: int) -> tuple[int, ...]:
        """Return the tokens of the children in draw order."""
        return tuple(self.token[child] for child in self._children[node])

    def path(self, node: int) -> list[int]:
        """Return the nodes from depth 1 down to `node`; empty for the root."""
        nodes = []
        while node != ROOT:
            nodes.append(node)
            node = self.parent[node]
        return nodes[::-1]

    def path_tokens(self, node: int) -> list[int]:
        """Return the tokens from depth 1 down to `node`; empty for the root."""
        return [self.token[i] for i in self.path(node)]

    def visible(self) -> NDArray[np.bool_]:
        """Return [N, N] bool: query i (row) sees node j (column) iff j is i or an ancestor of i.

        Every node also sees all committed tokens, the root included.
        """
        visible_NN = np.eye(len(self), dtype=np.bool_)
        for node, parent in enumerate(self.parent):
            if parent != ROOT:
                visible_NN[node] |= visible_NN[parent]
        return visible_NN

    def positions(self, num_committed: int) -> NDArray[np.int64]:
        """Return [N] int64: n - 1 + depth, where n committed tokens include the root."""
        return num_committed - 1 + np.asarray(self.depth, dtype=np.int64)

    def depth_first(self) -> list[int]:
        """Return all nodes in depth-first order, which makes the mask sparser in blocks."""
        order: list[int] = []
        stack = list(reversed(self._children[ROOT]))
        while stack:
            node = stack.pop()
            order.append(node)
            stack.extend(reversed(self._children[node]))
        return order

    def num_at_depth(self) -> list[int]:
        """Return how many nodes there are at depth 1, 2, ..."""
        counts = [0] * max(self.depth, default=0)
        for depth in self.depth:
            counts[depth - 1] += 1
        return counts

    def check(self) -> None:
        """Assert the invariants.

        Raises:
            AssertionError: Saying which node breaks which rule.
        """
        for node, (token, parent, depth) in enumerate(
            zip(self.token, self.parent, self.depth, strict=True)
        ):
            assert ROOT <= parent < node, f"node {node} has the later parent {parent}"
            assert depth == self.depth_of(parent) + 1, f"node {node} has a wrong depth {depth}"
            assert not self.is_stop(parent), f"node {node} hangs below a stop token"
            assert 0.0 <= self.confidence[node] <= 1.0 + 1e-9, f"node {node}: not a probability"
            law = self.law[node]
            can_draw = isinstance(law, PointLaw) or law.probs[token] > 0.0
            assert can_draw, f"node {node}: its law cannot draw token {token}"
        assert len(self) <= self.limits.max_nodes, f"{len(self)} nodes, budget {self.limits}"
