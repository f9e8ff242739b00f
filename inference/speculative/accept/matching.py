"""Lossless sampling that gives the very tokens of plain decoding with the same random numbers.

The next token is drawn from the target law as plain decoding would draw it; a child is accepted if it
carries that token. Exact for any draft tree that was made without the numbers of this rule: the output
never depends on the drafts at all, only the number of forwards does ("drafter-invariant", Daliri et al.,
arXiv 2408.07978).

A candidate y is accepted with probability p[y]. For chosen candidates (point law) that is what
recursive rejection gives; a token drawn from q is accepted with probability sum p q here and with
sum min(p, q) there.
"""

from __future__ import annotations

from inference.speculative.accept.base import Acceptance, Guarantee, accepted_path
from inference.speculative.draft_tree import ROOT, DraftTree
from inference.speculative.random_source import RandomSource
from inference.speculative.target_law import TargetLaw


class Matching:
    """Draws from the target and follows the child that agrees; one categorical draw per token."""

    guarantee: Guarantee = "lossless"

    def judge(self, tree: DraftTree, target: TargetLaw, rng: RandomSource) -> Acceptance:
        """Walk down as long as a child carries the drawn token."""
        nodes: list[int] = []
        node = ROOT
        while not tree.is_stop(node):
            drawn = rng.categorical(target(node))
            if drawn not in tree.child_tokens(node):
                return accepted_path(tree, nodes, drawn)
            node = tree.children(node)[tree.child_tokens(node).index(drawn)]
            nodes.append(node)
        return accepted_path(tree, nodes, None)


ACCEPT_RULE = Matching
