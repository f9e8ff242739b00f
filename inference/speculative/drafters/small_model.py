"""A smaller model with the same vocabulary drafts; a controller shapes its tree."""

from __future__ import annotations

from collections.abc import Sequence

from inference.requests import SamplingParams
from inference.speculative.controllers.base import TreeController
from inference.speculative.draft_tree import DraftTree
from inference.speculative.drafters.base import LawKind
from inference.speculative.proposing import DraftQuery, LogitsProvider, Proposing, answer_growth
from inference.speculative.random_source import RandomSource


class SmallModelDrafter:
    """Draws from the rows of a `LogitsProvider`, processed with its own sampling settings.

    Any settings keep the output exact, because a token's law is the row after processing. The target's own
    settings are a good choice above temperature 0.
    """

    name = "small_model"
    law_kind: LawKind = "mixed"  # a controller may draw or choose

    def __init__(
        self,
        provider: LogitsProvider,
        controller: TreeController,
        sampling: SamplingParams | None = None,
        *,
        request: int = 0,
    ) -> None:
        self._provider = provider
        self._controller = controller
        self._sampling = sampling or SamplingParams()
        self._request = request
        self._context: list[int] = []

    def begin(self, context: Sequence[int]) -> None:
        """Remember the prompt."""
        self._context = list(context)

    def propose(self, tree: DraftTree, rng: RandomSource) -> Proposing:
        """Let the controller grow the tree."""
        query = DraftQuery(
            provider=self._provider,
            request=self._request,
            context=self._context,
            tree=tree,
            nodes=(),
        )
        growth = self._controller.grow(tree, rng, self.name)
        return answer_growth(growth, query, self._sampling)

    def commit(self, token_ids: Sequence[int]) -> None:
        """Extend the context."""
        self._context.extend(token_ids)

    def reset(self) -> None:
        """Forget the context."""
        self._context = []


DRAFTER = SmallModelDrafter
