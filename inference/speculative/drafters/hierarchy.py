"""Two levels: a small drafter proposes, a middle model judges, the target gets exactly the middle law.

TriForce (arXiv 2404.11912) with the target's own retrieval KV as the middle. The outer level is exact only
if the middle level emits exactly the law it declares: a rejected token is replaced by a draw from
norm((m - d)+). The released code draws from m there, which biases the output; recursive rejection does not.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import torch

from inference.requests import SamplingParams
from inference.speculative.accept.sampling import RecursiveRejection
from inference.speculative.controllers.base import TreeController
from inference.speculative.draft_tree import ROOT, DraftLimits, DraftTree
from inference.speculative.drafters.base import LawKind
from inference.speculative.laws import Probs, RowLaw
from inference.speculative.proposing import DraftQuery, LogitsProvider, Proposing, answer_growth
from inference.speculative.random_source import RandomSource
from inference.speculative.target_law import processed_laws


class HierarchyDrafter:
    """Drafts a chain from the middle model's law with the help of a smaller one."""

    name = "hierarchy"
    law_kind: LawKind = "row"

    def __init__(
        self,
        *,
        small: LogitsProvider,
        controller: TreeController,
        middle: LogitsProvider,
        sampling: SamplingParams | None = None,
        length: int = 6,
        request: int = 0,
    ) -> None:
        if length < 1:
            raise ValueError(f"length={length} must be at least 1; the usual value is 6")
        self._small = small
        self._controller = controller
        self._middle = middle
        self._sampling = sampling or SamplingParams()
        self._length = length
        self._request = request
        self._context: list[int] = []

    def begin(self, context: Sequence[int]) -> None:
        """Remember the prompt."""
        self._context = list(context)

    def propose(self, tree: DraftTree, rng: RandomSource) -> Proposing:
        """Add a chain of at most `length` tokens of the middle law below the root."""
        node, end = ROOT, self._length
        while tree.depth_of(node) < end and tree.can_grow(node):
            emitted = yield from self._middle_step(tree, node, rng)
            for token, row in emitted:
                if tree.depth_of(node) == end or not tree.can_grow(node):
                    return
                confidence = float(row[token])
                node = tree.append(
                    node, token, RowLaw(row), source=self.name, confidence=confidence
                )

    def commit(self, token_ids: Sequence[int]) -> None:
        """Extend the context."""
        self._context.extend(token_ids)

    def reset(self) -> None:
        """Forget the context."""
        self._context = []

    def _middle_step(
        self, tree: DraftTree, node: int, rng: RandomSource
    ) -> Generator[DraftQuery, torch.Tensor, list[tuple[int, Probs]]]:
        """One speculative step of the middle model: emitted tokens, each with its row."""
        room = self._length - tree.depth_of(node)
        inner = DraftTree(
            DraftLimits(max_nodes=room, stop_token_ids=tree.limits.stop_token_ids, max_depth=room)
        )
        context = [*self._context, *tree.path_tokens(node)]

        def query(provider: LogitsProvider, nodes: Sequence[int]) -> DraftQuery:
            return DraftQuery(
                provider=provider, request=self._request, context=context, tree=inner, nodes=nodes
            )

        growth = self._controller.grow(inner, rng, self.name)
        yield from answer_growth(growth, query(self._small, ()), self._sampling)
        logits_NV = yield query(self._middle, (ROOT, *range(len(inner))))
        rows = processed_laws(logits_NV, self._sampling)
        step = RecursiveRejection().judge(inner, lambda i: rows[i + 1], rng)
        row_of = [rows[i + 1] for i in step.row_nodes]
        return list(zip(step.token_ids, row_of, strict=True))


DRAFTER = HierarchyDrafter
