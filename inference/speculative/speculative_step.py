"""One decoding step of one request: draft, target rows, judge, commit. The order that an engine follows.

    drafter.propose ----> DraftTree ----> target forward over root + tree ----> rule.judge ----> commit
    (draft numbers)                       (one row of logits per node)        (accept numbers)

An engine does the same for many requests at once: all drafters in `draft_together`, all trees in one packed
forward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inference.speculative.accept.base import Acceptance, AcceptRule
from inference.speculative.draft_tree import DraftLimits, DraftTree
from inference.speculative.drafters.base import Drafter
from inference.speculative.proposing import draft_together
from inference.speculative.random_source import RandomSource
from inference.speculative.target_law import TargetLaw

TargetForward = Callable[[DraftTree], TargetLaw]
"""The target's forward over root and tree."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """A draft tree and what became of it."""

    tree: DraftTree
    acceptance: Acceptance
    draft_forwards: int


def speculative_step(
    drafter: Drafter,
    limits: DraftLimits,
    target: TargetForward,
    rule: AcceptRule,
    *,
    draft_rng: RandomSource,
    accept_rng: RandomSource,
) -> StepResult:
    """Draft, judge and commit; the drafter must have begun.

    Args:
        drafter: Told what was emitted before this returns.
        limits: Size of the draft tree; `max_nodes=0` is a plain decoding step.
        target: Called once with the finished tree.
        rule: Decides what is emitted.
        draft_rng: Numbers of the draft.
        accept_rng: Other numbers, fresh in every step.
    """
    tree = DraftTree(limits)
    forwards = draft_together([drafter.propose(tree, draft_rng)]) if limits.max_nodes else 0
    acceptance = rule.judge(tree, target(tree), accept_rng)
    drafter.commit(acceptance.token_ids)
    return StepResult(tree, acceptance, forwards)
