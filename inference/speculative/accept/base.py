"""The contract of accept rules: what goes in, what comes out, what is promised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from inference.speculative.draft_tree import ROOT, DraftTree
from inference.speculative.laws import accept_prob, after_rejection
from inference.speculative.random_source import RandomSource
from inference.speculative.target_law import TargetLaw

Guarantee = Literal["lossless", "greedy", "lossy"]
"""lossless: the target law, exactly; greedy: the target's argmax at each token; lossy: neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What one decoding step emits.

    Example:
        Nodes 1 and 3 of a tree were accepted with tokens 1 and 2, then token 1 was drawn from the row of
        node 3: nodes (1, 3), token_ids (1, 2, 1), row_nodes (-1, 1, 3).
    """

    nodes: tuple[int, ...]
    """Accepted draft nodes from depth 1 down; the KV of exactly these is kept."""
    token_ids: tuple[int, ...]
    """Emitted tokens: those of `nodes`, then one more unless a stop token ended the step. The last
    token of a step without stop token is the new root and has no KV."""

    @property
    def row_nodes(self) -> tuple[int, ...]:
        """Node whose target row gave each emitted token: log-probs are read there."""
        return (ROOT, *self.nodes)[: len(self.token_ids)]


@runtime_checkable
class AcceptRule(Protocol):
    """What `inference/speculative/accept/<name>.py` provides; it names its class in `ACCEPT_RULE`."""

    guarantee: Guarantee

    def judge(self, tree: DraftTree, target: TargetLaw, rng: RandomSource) -> Acceptance:
        """Return the tokens that this step emits, at least one.

        Args:
            tree: Proposals with their laws, in draw order.
            target: Processed target law at each node; called for visited nodes only.
            rng: Fresh numbers: none of them was used for drafting or in an earlier step.
        """
        ...


def accepted_path(tree: DraftTree, nodes: list[int], last_token: int | None) -> Acceptance:
    """Return the acceptance of `nodes` and of one more token (None: a stop token came last)."""
    tokens = [tree.token[node] for node in nodes] + ([] if last_token is None else [last_token])
    return Acceptance(nodes=tuple(nodes), token_ids=tuple(tokens))


def node_accept_probs(tree: DraftTree, target: TargetLaw) -> list[float]:
    """Return [N]: probability that recursive rejection accepts each node once it is judged.

    Known for every node after the target forward, also for those that the walk never reached. This is what
    calibrates a controller's estimates.
    """
    probs = [0.0] * len(tree)
    for node in (ROOT, *range(len(tree))):
        if not tree.children(node):
            continue
        residual = target(node)
        for child in tree.children(node):
            probs[child] = accept_prob(residual, tree.token[child], tree.law[child])
            residual = after_rejection(residual, tree.token[child], tree.law[child])
    return probs
