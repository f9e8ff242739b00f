"""Typical acceptance: LOSSY. Plausible candidates pass although the target would not have drawn them.

Candidate y is accepted iff p[y] > min(epsilon, delta * exp(-H(p))), H in nats; the longest accepted path
wins (ties: the first drawn), then one token is drawn from the row of its end (Medusa, arXiv 2401.10774,
section 2.3.1). The output does not have the target law at any temperature above 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from inference.speculative.accept.base import Acceptance, Guarantee, accepted_path
from inference.speculative.draft_tree import ROOT, DraftTree
from inference.speculative.laws import Probs, entropy
from inference.speculative.random_source import RandomSource
from inference.speculative.target_law import TargetLaw


@dataclass(frozen=True, slots=True, kw_only=True)
class TypicalConfig:
    """Thresholds; some published code has the two defaults swapped."""

    epsilon: float = 0.09
    """Hard threshold on the probability, in (0, 1]."""
    delta: float = 0.3
    """Factor of exp(-entropy), positive."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0.0 < self.epsilon <= 1.0:
            raise ValueError(f"epsilon={self.epsilon} is outside (0, 1]; the usual value is 0.09")
        if self.delta <= 0.0:
            raise ValueError(f"delta={self.delta} must be positive; the usual value is 0.3")


class Typical:
    """Accepts the longest path of plausible candidates. Lossy."""

    guarantee: Guarantee = "lossy"

    def __init__(self, config: TypicalConfig | None = None) -> None:
        self.config = config or TypicalConfig()

    def judge(self, tree: DraftTree, target: TargetLaw, rng: RandomSource) -> Acceptance:
        """Return the longest plausible path and one token drawn behind it."""
        plausible = {ROOT}
        best = ROOT
        for node in (ROOT, *range(len(tree))):
            if node not in plausible or not tree.children(node):
                continue
            law = target(node)
            bound = typical_threshold(law, self.config)
            plausible.update(c for c in tree.children(node) if law[tree.token[c]] > bound)
        for node in sorted(plausible):
            best = node if tree.depth_of(node) > tree.depth_of(best) else best
        last = None if tree.is_stop(best) else rng.categorical(target(best))
        return accepted_path(tree, tree.path(best), last)


def typical_threshold(law: Probs, config: TypicalConfig) -> float:
    """Return min(epsilon, delta * exp(-H)), H the entropy of the law in nats."""
    return min(config.epsilon, config.delta * math.exp(-entropy(law)))


ACCEPT_RULE = Typical
