"""Scheduler: which tokens are fed in the next forward, and where their KV goes.

    waiting  (order of submission) --admit--> running (oldest first) --> finished
        ^                                        |
        +------------- preempt youngest ---------+

For each running request, oldest first: if its path has tokens without KV, feed them (up to the batch
limit); a token that another request of the same step feeds is not fed again. A request whose path
has KV up to its last token when the forward ends gets a row of logits. Requests that wait at the same
tip share one row.

If the last token of a path got its KV in an earlier step, its logits are gone: it is fed again into a
scratch slot, once for all requests at that tip, and the stored KV is not touched.

When slots run out: evict the KV of idle nodes, then preempt the youngest request. The oldest one is
always served, so work makes progress; only a path that does not fit alone is an error.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inference.kv.cache import Node, TreeCache
from inference.kv.pool import KVBudgetError
from inference.path import Path, Request
from inference.slot_table import SlotTable
from inference.step_plan import Spans


@dataclass(slots=True, kw_only=True)
class StepWork:
    """One forward: what is fed and who gets logits."""

    spans: Spans
    token_ids: NDArray[np.int64]
    """[T] packed tokens."""
    logit_rows: NDArray[np.int64]
    """[U] packed indices whose logits are needed."""
    ready: list[Request]
    """Requests that draw a token in this step."""
    source: NDArray[np.int64]
    """[len(ready)] which of the U logits each of them uses."""
    draft: StepDraft


@dataclass(slots=True)
class StepDraft:
    """What has been decided for the next forward while requests are looked at one by one."""

    budget: int
    """Tokens that may still be fed."""
    rows: list[int] = field(default_factory=list)
    """Row of the slot table of each span."""
    lengths: list[int] = field(default_factory=list)
    tokens: list[list[int]] = field(default_factory=list)
    """Tokens that each span feeds."""
    new_slots: set[int] = field(default_factory=set)
    """Slots that are written in this step."""
    scratch: dict[int, int] = field(default_factory=dict)
    """Slot of a token that is fed again -> scratch slot."""
    scratch_spans: list[tuple[int, int]] = field(default_factory=list)
    """(span, scratch slot) of them."""
    assigned: list[tuple[Node, int]] = field(default_factory=list)
    """Slots that nodes got, for undoing."""
    ready: list[Request] = field(default_factory=list)
    logit_slots: list[int] = field(default_factory=list)

    def add_span(self, row: int, length: int, tokens: list[int]) -> None:
        """Feed `tokens`, the last ones of the first `length` of a path."""
        self.rows.append(row)
        self.lengths.append(length)
        self.tokens.append(tokens)
        self.budget -= len(tokens)


class Scheduler:
    """Running and waiting requests over one tree cache."""

    def __init__(self, cache: TreeCache, *, max_batch_tokens: int, max_running: int) -> None:
        self.cache = cache
        self.max_batch_tokens = max_batch_tokens
        self.max_running = max_running
        self._running: list[Request] = []
        self._waiting: deque[Request] = deque()
        self._by_path: dict[int, Request] = {}
        self._table = SlotTable()

    @property
    def has_work(self) -> bool:
        """Whether any request is running or waiting."""
        return bool(self._by_path)

    def request_of(self, path: Path) -> Request | None:
        """Return the request on a path, if there is one."""
        return self._by_path.get(id(path))

    def submit(self, request: Request) -> None:
        """Queue a request."""
        self._by_path[id(request.path)] = request
        self._waiting.append(request)

    def remove(self, request: Request) -> None:
        """Forget a request that has finished or was cancelled; its path stays."""
        del self._by_path[id(request.path)]
        if request.row is None:
            self._waiting.remove(request)
        else:
            self._stop_running(request)

    def clear(self) -> None:
        """Forget all requests."""
        for request in list(self._by_path.values()):
            self.remove(request)

    def plan(self) -> StepWork | None:
        """Choose the tokens of the next forward and give them slots; None if there is no work.

        Raises:
            KVBudgetError: The oldest request does not fit alone.
        """
        self._admit()
        draft = StepDraft(self.max_batch_tokens)
        for request in tuple(self._running):
            if draft.budget > 0 and request.row is not None:
                self._plan_request(request, draft)
        return self._work(draft) if draft.rows else None

    def extend(self, request: Request, token_id: int) -> None:
        """Append a drawn token to the path of a running request."""
        path = request.path
        tip = self.cache.extend(path.tip, (token_id,))
        if tip is not path.tip:
            tip.locks = 1
            path.tip = tip

    def settle(self, work: StepWork) -> None:
        """Give scratch slots back after the forward."""
        self.cache.pool.give(list(work.draft.scratch.values()))

    def undo(self, work: StepWork) -> None:
        """Take all slots of a failed forward back; every request waits again."""
        self.settle(work)
        for node, count in reversed(work.draft.assigned):
            self.cache.pool.give(node.slots[-count:])
            del node.slots[-count:]
        while self._running:
            self._preempt(self._running[-1])

    # ---------------------------------------------------------------- running and waiting

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self.max_running:
            if self._running and not self._has_room(self._waiting[0]):
                return
            request = self._waiting.popleft()
            self.cache.lock(request.path.tip)
            request.row, request.filled = self._table.take(), 0
            self._running.append(request)

    def _has_room(self, request: Request) -> bool:
        """Whether its path fits beside the running ones, with one token to spare for each."""
        limit = self.cache.pool.max_tokens
        if limit is None:
            return True
        ours = sum(len(node.token_ids) for node in request.path.tip.ancestry() if not node.locks)
        return self.cache.num_locked_tokens() + ours + len(self._running) + 1 <= limit

    def _preempt(self, request: Request) -> None:
        self._stop_running(request)
        self._waiting.appendleft(request)

    def _stop_running(self, request: Request) -> None:
        assert request.row is not None
        self._running.remove(request)
        self._table.give(request.row)
        request.row = None
        self.cache.unlock(request.path.tip)

    # ---------------------------------------------------------------- one step

    def _plan_request(self, request: Request, draft: StepDraft) -> None:
        tip = request.path.tip
        self._sync(request, tip)
        if request.filled < tip.end:
            self._feed(request, tip, draft)
        elif int(self._table.slots[request.row, tip.end - 1]) not in draft.new_slots:
            self._feed_again(request, tip, draft)
        if request.row is None or request.filled < tip.end:
            return
        last = int(self._table.slots[request.row, tip.end - 1])
        draft.ready.append(request)
        draft.logit_slots.append(draft.scratch.get(last, last))

    def _sync(self, request: Request, tip: Node) -> None:
        """Copy the slots that the nodes of the path have into the row of the request."""
        assert request.row is not None
        filled = request.filled
        self._table.widen(tip.end)
        if filled == tip.end - 1 and len(tip.slots) == len(tip.token_ids) - 1:
            return  # the usual decoding step: only the token drawn last is new
        for node in tip.ancestry():
            if node.end <= filled:
                break
            if node.slots:
                self._table.slots[request.row, node.start : node.computed_end] = node.slots
                request.filled = max(request.filled, node.computed_end)

    def _feed(self, request: Request, tip: Node, draft: StepDraft) -> None:
        start = request.filled
        stop = min(tip.end, start + draft.budget)
        assert request.row is not None
        after = int(self._table.slots[request.row, start - 1]) if start else None
        slots = self._take(stop - start, request, after)
        if slots is None:
            return
        tokens: list[int] = []
        for node in _nodes_from(tip, start):
            first = len(node.slots)
            given = slots[len(tokens) : len(tokens) + len(node.token_ids) - first]
            if given:
                tokens += node.token_ids[first : first + len(given)]
                node.slots += given
                draft.assigned.append((node, len(given)))
        self._table.slots[request.row, start:stop] = slots
        request.filled = stop
        draft.new_slots.update(slots)
        draft.add_span(request.row, stop, tokens)

    def _feed_again(self, request: Request, tip: Node, draft: StepDraft) -> None:
        last = int(self._table.slots[request.row, tip.end - 1])
        if last in draft.scratch:
            return
        slots = self._take(1, request)
        if slots is None:
            return
        assert request.row is not None
        draft.scratch[last] = slots[0]
        draft.scratch_spans.append((len(draft.rows), slots[0]))
        draft.add_span(request.row, tip.end, [tip.token_ids[-1]])

    def _take(self, count: int, request: Request, after: int | None = None) -> list[int] | None:
        """Return new slots; preempt younger requests if needed; None if this one was the youngest."""
        while not self.cache.make_room(count):
            youngest = self._running[-1]
            if youngest is self._running[0]:
                limit = self.cache.pool.max_tokens
                assert limit is not None
                free = limit - self.cache.num_locked_slots()
                raise KVBudgetError(needed=count, free=free, budget=limit)
            self._preempt(youngest)
            if youngest is request:
                return None
        return self.cache.pool.take(count, after)

    def _work(self, draft: StepDraft) -> StepWork:
        counts = np.array([len(tokens) for tokens in draft.tokens])
        lengths = np.array(draft.lengths)
        slots = self._table.slots[draft.rows, : lengths.max()]
        for span, scratch in draft.scratch_spans:
            slots[span, lengths[span] - 1] = scratch
        order = np.argsort(counts > 1, kind="stable")  # spans with one token first
        spans = Spans(slots=slots[order], lengths=lengths[order], counts=counts[order])
        tokens = [token for span in order.tolist() for token in draft.tokens[span]]
        packed_index = np.zeros(self.cache.pool.num_created, dtype=np.int64)
        written = spans.packed_slots()
        packed_index[written] = np.arange(len(written))
        logit_rows, source = np.unique(
            packed_index[np.array(draft.logit_slots, dtype=np.int64)], return_inverse=True
        )
        return StepWork(
            spans=spans,
            token_ids=np.array(tokens),
            logit_rows=logit_rows,
            ready=draft.ready,
            source=source,
            draft=draft,
        )


def _nodes_from(tip: Node, start: int) -> list[Node]:
    """Return the nodes of the path that reach beyond position `start`, first one first."""
    nodes: list[Node] = []
    for node in tip.ancestry():
        if node.end <= start:
            break
        nodes.append(node)
    return nodes[::-1]
