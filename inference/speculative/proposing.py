"""How drafters ask for logits: generators that several requests run in step, one forward per round.

A drafter does not call a model. Its `propose` is a generator that yields a `DraftQuery` whenever it
needs rows of logits for nodes of its draft tree, and gets them sent back. `draft_together` runs the
generators of many requests side by side and hands all queries of a round to their provider in one call;
a tree that grows level by level so takes one batched forward per depth.

    request 1   yield [root]      yield [0, 1]     done
    request 2   yield [root]      yield [0]        yield [1]   done
                     |                 |               |
    provider     one forward       one forward     one forward
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from inference.requests import SamplingParams
from inference.speculative.draft_tree import DraftTree
from inference.speculative.laws import Probs
from inference.speculative.target_law import processed_laws


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DraftQuery:
    """The wish for the logits that follow some nodes of a request's draft tree."""

    provider: LogitsProvider
    request: int
    """The engine's name of the request, as given to the drafter."""
    context: Sequence[int]
    """Committed tokens, the root last. Belongs to the drafter; do not change it."""
    tree: DraftTree
    nodes: Sequence[int]
    """-1 = root. A node's ancestors may never have been asked for, if another drafter added them."""
    exit_layer: int | None = None
    """Run layers [0, exit_layer) and the head; None = all layers."""


class LogitsProvider(Protocol):
    """A model, seen from a drafter."""

    def __call__(self, queries: Sequence[DraftQuery]) -> Sequence[torch.Tensor]:
        """Return one tensor [len(query.nodes), V] per query, in order; any floating dtype."""
        ...


Growth = Generator[list[int], Sequence[Probs], None]
"""A controller at work: yields nodes, is sent the drafter's law at each of them."""

Proposing = Generator[DraftQuery, torch.Tensor, None]
"""A drafter at work: yields a query, is sent the logits."""


def no_queries() -> Proposing:
    """Return the work of a drafter that needs no logits."""
    yield from ()


def answer_growth(growth: Growth, query: DraftQuery, sampling: SamplingParams) -> Proposing:
    """Run a controller on logits: each of its wishes becomes a query like `query`.

    Args:
        growth: The controller's generator for `query.tree`.
        query: Everything but the nodes is copied from it.
        sampling: How logits become the law that is drawn from.
    """
    try:
        nodes = next(growth)
        while True:
            logits_RV = yield DraftQuery(
                provider=query.provider,
                request=query.request,
                context=query.context,
                tree=query.tree,
                nodes=nodes,
                exit_layer=query.exit_layer,
            )
            nodes = growth.send(list(processed_laws(logits_RV, sampling)))
    except StopIteration:
        return


def draft_together(proposals: Iterable[Proposing]) -> int:
    """Run several drafters to their end; returns the number of provider calls (forwards)."""
    waiting = [(proposing, query) for proposing in proposals for query in _next(proposing)]
    num_forwards = 0
    while waiting:
        answers: dict[int, torch.Tensor] = {}
        for provider, indices in _by_provider([query for _, query in waiting]):
            logits = provider([waiting[index][1] for index in indices])
            answers.update(zip(indices, logits, strict=True))
            num_forwards += 1
        waiting = [
            (proposing, query)
            for index, (proposing, _) in enumerate(waiting)
            for query in _send(proposing, answers[index])
        ]
    return num_forwards


def _next(proposing: Proposing) -> list[DraftQuery]:
    """Return the first query, or nothing if there is none."""
    query = next(proposing, None)
    return [] if query is None else [query]


def _send(proposing: Proposing, logits_RV: torch.Tensor) -> list[DraftQuery]:
    try:
        return [proposing.send(logits_RV)]
    except StopIteration:
        return []


def _by_provider(queries: Sequence[DraftQuery]) -> list[tuple[LogitsProvider, list[int]]]:
    """Group query numbers by provider (by identity), in order of first use."""
    groups: dict[int, tuple[LogitsProvider, list[int]]] = {}
    for index, query in enumerate(queries):
        groups.setdefault(id(query.provider), (query.provider, []))[1].append(index)
    return list(groups.values())
