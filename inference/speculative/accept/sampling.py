"""Lossless sampling by recursive rejection.

At a node with target law p the children are judged in draw order, each against the conditional law d
it was drawn from: with R = p at first, child y is accepted with probability min(1, R[y] / d[y]), otherwise
R becomes norm((R - d)+). If no child is accepted, a token is drawn from R. The emitted token has law p
exactly, whatever the drafters, and so has every later one (Leviathan et al., arXiv 2211.17192, appendix
A.1 for one child; SpecInfer, arXiv 2305.09781, section 4.3 for several; Sequoia, arXiv 2402.12374,
section 3.2 without replacement).

Differences from published code: point-mass candidates are judged as such; a residual without mass is not
divided by its sum.
"""

from __future__ import annotations

from inference.speculative.accept.base import Acceptance, Guarantee, accepted_path
from inference.speculative.draft_tree import ROOT, DraftTree
from inference.speculative.laws import Probs, accept_prob, after_rejection
from inference.speculative.random_source import RandomSource
from inference.speculative.target_law import TargetLaw


class RecursiveRejection:
    """Emits tokens with exactly the target law."""

    guarantee: Guarantee = "lossless"

    def judge(self, tree: DraftTree, target: TargetLaw, rng: RandomSource) -> Acceptance:
        """Walk down as long as a child is accepted, then draw one token from what is left."""
        nodes: list[int] = []
        node = ROOT
        while not tree.is_stop(node):
            child, residual = _first_accepted(tree, node, target(node), rng)
            if child is None:
                return accepted_path(tree, nodes, rng.categorical(residual))
            nodes.append(child)
            node = child
        return accepted_path(tree, nodes, None)


def _first_accepted(
    tree: DraftTree, node: int, residual: Probs, rng: RandomSource
) -> tuple[int | None, Probs]:
    for child in tree.children(node):
        token, law = tree.token[child], tree.law[child]
        if rng.bernoulli(accept_prob(residual, token, law)):
            return child, residual
        residual = after_rejection(residual, token, law)
    return None, residual


ACCEPT_RULE = RecursiveRejection
