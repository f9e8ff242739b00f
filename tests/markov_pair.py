"""The order-1 Markov pair on which accept rules, drafters and controllers are enumerated.

Tokens are 0..3. START is the one prompt token; it is never emitted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inference.speculative.accept.base import AcceptRule
from inference.speculative.controllers.base import TreeController
from inference.speculative.draft_tree import ROOT, DraftLimits, DraftTree
from inference.speculative.drafters.base import Drafter, LawKind
from inference.speculative.laws import Probs
from inference.speculative.proposing import DraftQuery, Proposing, no_queries
from inference.speculative.random_source import RandomSource, enumerate_outcomes
from inference.speculative.speculative_step import speculative_step

START = 4
TARGET = np.array(
    [
        [0.40, 0.30, 0.20, 0.10],
        [0.10, 0.45, 0.25, 0.20],
        [0.25, 0.25, 0.30, 0.20],
        [0.20, 0.20, 0.20, 0.40],
        [0.30, 0.30, 0.25, 0.15],
    ]
)
"""Row t follows token t; the last row follows START."""
DRAFT = np.array(
    [
        [0.55, 0.15, 0.10, 0.20],
        [0.30, 0.30, 0.10, 0.30],
        [0.10, 0.15, 0.45, 0.30],
        [0.05, 0.15, 0.20, 0.60],
        [0.50, 0.10, 0.15, 0.25],
    ]
)
MIDDLE = np.array(
    [
        [0.45, 0.25, 0.15, 0.15],
        [0.20, 0.40, 0.20, 0.20],
        [0.20, 0.20, 0.35, 0.25],
        [0.10, 0.20, 0.20, 0.50],
        [0.40, 0.20, 0.25, 0.15],
    ]
)

Table = NDArray[np.float64]
MakeDrafter = Callable[[], Drafter]
Law = dict[tuple[int, ...], float]


def last_token(tree: DraftTree, context: Sequence[int], node: int) -> int:
    """The token behind which a row is wanted."""
    return context[-1] if node == ROOT else tree.token[node]


class TableDrafter:
    """Lets a controller draw from rows of a table, without logits."""

    name = "table"
    law_kind: LawKind = "mixed"

    def __init__(self, controller: TreeController, table: Table = DRAFT) -> None:
        self._controller = controller
        self._table = table
        self._context: list[int] = []

    def begin(self, context: Sequence[int]) -> None:
        self._context = list(context)

    def propose(self, tree: DraftTree, rng: RandomSource) -> Proposing:
        growth = self._controller.grow(tree, rng, self.name)
        rows: list[Probs] | None = None
        while True:
            try:
                nodes = growth.send(rows)  # type: ignore[arg-type]  # the first value sent is None
            except StopIteration:
                return no_queries()
            rows = [self._table[last_token(tree, self._context, node)] for node in nodes]

    def commit(self, token_ids: Sequence[int]) -> None:
        self._context.extend(token_ids)

    def reset(self) -> None:
        self._context = []


class TableProvider:
    """A model whose logits are the logs of a table; notes what it was asked for."""

    def __init__(self, table: Table = DRAFT) -> None:
        self._logits = torch.from_numpy(table).log()
        self.calls: list[list[DraftQuery]] = []
        self.num_rows = 0

    def __call__(self, queries: Sequence[DraftQuery]) -> list[torch.Tensor]:
        self.calls.append(list(queries))
        self.num_rows += sum(len(query.nodes) for query in queries)
        return [
            self._logits[[last_token(q.tree, q.context, node) for node in q.nodes]] for q in queries
        ]


def decode(
    drafter: Drafter,
    rule: AcceptRule,
    rng: RandomSource,
    *,
    num_tokens: int,
    max_nodes: int = 64,
    table: Table = TARGET,
    **limits: Any,  # max_depth and stop_token_ids, as in DraftLimits
) -> tuple[int, ...]:
    """The first tokens that speculative decoding emits."""
    context = [START]
    drafter.begin(context)
    stops = limits.get("stop_token_ids", frozenset())
    while len(context) <= num_tokens and not stops & set(context[1:]):
        result = speculative_step(
            drafter,
            DraftLimits(max_nodes=max_nodes, **limits),
            lambda tree: lambda node: table[last_token(tree, context, node)],
            rule,
            draft_rng=rng,
            accept_rng=rng,
        )
        result.tree.check()
        context.extend(result.acceptance.token_ids)
    return tuple(context[1 : num_tokens + 1])


def decoded_law(make: MakeDrafter, rule: AcceptRule, *, num_tokens: int = 2, **limits: Any) -> Law:
    """The exact law of the first tokens, step by step; `limits` as in `decode`.

    What a drafter does next depends on the committed tokens only, so one step is enumerated per context
    instead of all combinations of the choices of several steps.
    """
    stops = limits.get("stop_token_ids", frozenset())
    law: Law = {}
    open_contexts: Law = {(): 1.0}
    while open_contexts:
        tokens, prob = open_contexts.popitem()
        if len(tokens) >= num_tokens or stops & set(tokens):
            emitted = tokens[:num_tokens]
            law[emitted] = law.get(emitted, 0.0) + prob
            continue
        for new, weight in step_law(make, rule, [START, *tokens], **limits).items():
            longer = (*tokens, *new)
            open_contexts[longer] = open_contexts.get(longer, 0.0) + prob * weight
    return law


def step_law(
    make: MakeDrafter, rule: AcceptRule, context: Sequence[int], max_nodes: int = 64, **limits: Any
) -> Law:
    """The exact law of the tokens that one step emits."""
    return enumerate_outcomes(lambda rng: one_step(make(), rule, rng, context, max_nodes, **limits))


def one_step(
    drafter: Drafter,
    rule: AcceptRule,
    rng: RandomSource,
    context: Sequence[int],
    max_nodes: int = 64,
    **limits: Any,
) -> tuple[int, ...]:
    """The tokens of one step behind a context."""
    drafter.begin(context)
    result = speculative_step(
        drafter,
        DraftLimits(max_nodes=max_nodes, **limits),
        lambda tree: lambda node: TARGET[last_token(tree, context, node)],
        rule,
        draft_rng=rng,
        accept_rng=rng,
    )
    return result.acceptance.token_ids


def plain_law(num_tokens: int = 2, table: Table = TARGET) -> Law:
    """The law of plain decoding."""
    law = {}
    for tokens in itertools.product(range(table.shape[1]), repeat=num_tokens):
        pairs = itertools.pairwise((START, *tokens))
        law[tokens] = float(np.prod([table[before, after] for before, after in pairs]))
    return law


def first_step_tokens(make: MakeDrafter, rule: AcceptRule) -> float:
    """Expected number of tokens that the first step emits."""
    return sum(len(tokens) * prob for tokens, prob in step_law(make, rule, [START]).items())


def total_variation(law: Law, other: Law) -> float:
    """Half the sum of absolute differences."""
    keys = set(law) | set(other)
    return 0.5 * sum(abs(law.get(key, 0.0) - other.get(key, 0.0)) for key in keys)
