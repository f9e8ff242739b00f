"""The target drafts for itself: its first layers, the final norm and the head (LayerSkip, arXiv 2404.16710).

The KV of the first layers is the target's own, so nothing is stored twice and nothing goes stale when the
weights change. Verification runs the remaining layers over the hidden states that drafting left behind.
Needs a model whose early states the head can read; without training for that, acceptance is poor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from inference.requests import SamplingParams
from inference.speculative.controllers.exit_choice import ExitPlan
from inference.speculative.draft_tree import DraftTree
from inference.speculative.drafters.base import LawKind
from inference.speculative.proposing import DraftQuery, LogitsProvider, Proposing, answer_growth
from inference.speculative.random_source import RandomSource


class ExitController(Protocol):
    """Chooses exit layer and length anew in each round; `ExitChoice` (DEL) or `FixedExit`."""

    def plan(self) -> ExitPlan:
        """Return how the next round drafts."""
        ...

    def reset(self) -> None:
        """Forget the request."""
        ...


class EarlyExitDrafter:
    """Draws from the rows of an exit layer of the target."""

    name = "early_exit"
    law_kind: LawKind = "mixed"

    def __init__(
        self,
        provider: LogitsProvider,
        exits: ExitController,
        sampling: SamplingParams | None = None,
        *,
        request: int = 0,
    ) -> None:
        self._provider = provider
        self._exits = exits
        self._sampling = sampling or SamplingParams()
        self._request = request
        self._context: list[int] = []

    def begin(self, context: Sequence[int]) -> None:
        """Start with fresh statistics; the caller lets the exit controller observe the prompt."""
        self.reset()
        self._context = list(context)

    def propose(self, tree: DraftTree, rng: RandomSource) -> Proposing:
        """Ask for a plan and grow the tree with the rows of its exit layer."""
        plan = self._exits.plan()
        query = DraftQuery(
            provider=self._provider,
            request=self._request,
            context=self._context,
            tree=tree,
            nodes=(),
            exit_layer=plan.exit_layer,
        )
        return answer_growth(plan.controller.grow(tree, rng, self.name), query, self._sampling)

    def commit(self, token_ids: Sequence[int]) -> None:
        """Extend the context."""
        self._context.extend(token_ids)

    def reset(self) -> None:
        """Forget the context and the statistics of the request."""
        self._context = []
        self._exits.reset()


DRAFTER = EarlyExitDrafter
