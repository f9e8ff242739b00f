"""Greedy acceptance: the output is the target's argmax at every token, as in plain greedy decoding."""

from __future__ import annotations

from inference.speculative.accept.base import Acceptance, Guarantee, accepted_path
from inference.speculative.draft_tree import ROOT, DraftTree
from inference.speculative.random_source import RandomSource
from inference.speculative.target_law import TargetLaw


class Greedy:
    """Follows the argmax through the tree; ties go to the lowest token id."""

    guarantee: Guarantee = "greedy"

    def judge(self, tree: DraftTree, target: TargetLaw, rng: RandomSource) -> Acceptance:
        """Walk to the child that carries the argmax; where there is none, emit the argmax and stop."""
        nodes: list[int] = []
        node = ROOT
        while not tree.is_stop(node):
            best = int(target(node).argmax())
            if best not in tree.child_tokens(node):
                return accepted_path(tree, nodes, best)
            node = tree.children(node)[tree.child_tokens(node).index(best)]
            nodes.append(node)
        return accepted_path(tree, nodes, None)


ACCEPT_RULE = Greedy
