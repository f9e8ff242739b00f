"""TreeCache: token runs with a parent, reference counts and KV slots.

    tokens    P: 5 1 8 2 9 4 --+-- A: 7 7 3 0 --+-- A1: 2 6 ...
                               |                +-- A2: 9 9 ...
                               +-- B: 7 1 ...
    slots     P: 0 1 2 3 4 5   A: 6 7 8 -   (the last token of A was drawn but not fed yet: no KV)

* A node is append-only, and only a path that is its sole holder appends to it; any other writer gets a
  new child. Sharing therefore never copies.
* references = children + live paths. At 0 the slots are given back and the parent is released.
* `len(slots) <= len(token_ids)`: the first tokens of a node have KV. A node has KV only if all its
  ancestors have all of theirs.
* Splitting cuts the lists of a node at a token; no KV moves.
* `locks` counts the running requests whose path goes through the node: their KV stays. Everything
  else is idle and may be evicted, leaves first, least recently used first; it is computed again when
  it is needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from inference.kv.pool import SlotPool


@dataclass(eq=False, slots=True, kw_only=True)
class Node:
    """A run of tokens; owned by the `TreeCache` that made it."""

    id: int
    parent: Node | None
    start: int
    """Position of the first token; positions are absolute."""
    token_ids: list[int]
    slots: list[int] = field(default_factory=list)
    """KV slots of the first len(slots) tokens."""
    children: dict[int, Node] = field(default_factory=dict)
    num_paths: int = 0
    """Live paths that end here."""
    locks: int = 0
    """Running requests whose path goes through here."""
    last_use: int = 0

    @property
    def end(self) -> int:
        """Position after the last token: the length of a path that ends here."""
        return self.start + len(self.token_ids)

    @property
    def computed_end(self) -> int:
        """Position after the last token that has KV, if the ancestors have theirs."""
        return self.start + len(self.slots)

    @property
    def refs(self) -> int:
        """Children plus live paths."""
        return len(self.children) + self.num_paths

    @property
    def is_idle(self) -> bool:
        """Whether its KV may be dropped now: it has some, nobody runs on it, no child needs it."""
        return (
            not self.locks and bool(self.slots) and not any(c.slots for c in self.children.values())
        )

    def ancestry(self) -> Iterator[Node]:
        """Yield this node, its parent, and so on up to the root."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def path_token_ids(self) -> list[int]:
        """Return the tokens from the root to the end of this node."""
        runs = [node.token_ids for node in self.ancestry()]
        return list(itertools.chain.from_iterable(reversed(runs)))


class TreeCache:
    """All nodes of an engine and the slots that they own."""

    def __init__(self, pool: SlotPool) -> None:
        self.pool = pool
        self._nodes: dict[int, Node] = {}
        self._next_id = 0
        self._clock = 0

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, in order of creation."""
        return tuple(self._nodes.values())

    @property
    def num_tokens(self) -> int:
        """Distinct stored tokens."""
        return sum(len(node.token_ids) for node in self._nodes.values())

    def open(self, token_ids: Sequence[int]) -> Node:
        """Return a new root with one live path at its end."""
        node = self._new(None, 0, list(token_ids))
        node.num_paths = 1
        return node

    def attach(self, node: Node, num: int = 1) -> None:
        """Let `num` more live paths end at `node`; no KV is copied."""
        assert node.id in self._nodes, "attach to a released node"
        node.num_paths += num

    def release(self, node: Node) -> None:
        """End one live path; free what nobody refers to any more, here and upwards.

        Raises:
            ValueError: No live path ends at the node (released twice).
        """
        if node.num_paths < 1:
            raise ValueError(f"node {node.id} has no live path to release; it was released before")
        node.num_paths -= 1
        self._free_upwards(node)

    def extend(self, node: Node, token_ids: Sequence[int]) -> Node:
        """Append tokens for one of the live paths that end at `node`.

        Returns:
            The node at which that path ends now: the same one if the path was its only holder,
            otherwise a new child (then `node` has one live path less). Locks are not passed on.
        """
        if node.refs == 1:
            node.token_ids.extend(token_ids)
            return node
        child = self._new(node, node.end, list(token_ids))
        child.num_paths = 1
        node.num_paths -= 1
        return child

    def locate(self, tip: Node, length: int) -> Node:
        """Return the node that ends at `length` tokens on the path to `tip`.

        Side effects:
            Splits the node that holds this position, unless it ends there.
        """
        assert 1 <= length <= tip.end, f"length={length} is outside 1..{tip.end}"
        node = next(node for node in tip.ancestry() if node.start < length)
        return node if node.end == length else self._split(node, length - node.start)

    def evict(self, node: Node) -> None:
        """Drop the KV of an idle node; its tokens stay."""
        assert node.is_idle, f"node {node.id} is in use"
        self.pool.give(node.slots)
        node.slots = []

    def make_room(self, count: int) -> bool:
        """Evict idle nodes until `count` slots fit, and tell whether they do."""
        while not self.pool.fits(count):
            idle = [node for node in self._nodes.values() if node.is_idle]
            if not idle:
                return False
            for node in sorted(idle, key=lambda node: node.last_use):
                self.evict(node)
                if self.pool.fits(count):
                    break
        return True

    def lock(self, tip: Node) -> None:
        """Pin the KV of the path to `tip`."""
        for node in tip.ancestry():
            node.locks += 1

    def unlock(self, tip: Node) -> None:
        """Undo one `lock`; nodes that become idle count as used now."""
        self._clock += 1
        for node in tip.ancestry():
            node.locks -= 1
            node.last_use = self._clock

    def num_locked_tokens(self) -> int:
        """Return how many tokens lie on paths of running requests."""
        return sum(len(node.token_ids) for node in self._nodes.values() if node.locks)

    def num_locked_slots(self) -> int:
        """Return how many slots running requests hold."""
        return sum(len(node.slots) for node in self._nodes.values() if node.locks)

    def clear(self) -> None:
        """Forget all nodes, whoever holds them, and give all slots back."""
        for node in self._nodes.values():
            self.pool.give(node.slots)
            node.slots, node.children, node.num_paths, node.locks = [], {}, 0, 0
        self._nodes.clear()

    def check(self) -> None:
        """Assert the invariants of the module docstring; slow, for tests."""
        owned = [slot for node in self._nodes.values() for slot in node.slots]
        assert len(owned) == len(set(owned)) == self.pool.num_used, "a slot has two owners or none"
        assert not set(owned) & self.pool.free_slots(), "a slot is owned and free"
        assert len(owned) + len(self.pool.free_slots()) == self.pool.num_created, "a slot is lost"
        for node in self._nodes.values():
            self._check_node(node)

    def _check_node(self, node: Node) -> None:
        children = [other for other in self._nodes.values() if other.parent is node]
        assert set(node.children) == {child.id for child in children}, "children disagree"
        assert node.refs > 0, f"node {node.id} is stored but nobody refers to it"
        assert len(node.slots) <= len(node.token_ids), f"node {node.id} has more KV than tokens"
        assert node.locks >= sum(child.locks for child in children), "locks do not add up"
        parent = node.parent
        assert node.start == (0 if parent is None else parent.end), "positions have a gap"
        if parent is not None and node.slots:
            assert parent.computed_end == parent.end, f"node {node.id} has KV, its parent has not"

    def _new(self, parent: Node | None, start: int, token_ids: list[int]) -> Node:
        node = Node(id=self._next_id, parent=parent, start=start, token_ids=token_ids)
        self._next_id += 1
        self._nodes[node.id] = node
        if parent is not None:
            parent.children[node.id] = node
        return node

    def _split(self, node: Node, at: int) -> Node:
        """Cut `node` before its token `at`; return the new head, `node` keeps the rest."""
        head = self._new(node.parent, node.start, node.token_ids[:at])
        head.slots, head.locks, head.last_use = node.slots[:at], node.locks, node.last_use
        if node.parent is not None:
            del node.parent.children[node.id]
        node.parent, head.children = head, {node.id: node}
        node.start += at
        node.token_ids, node.slots = node.token_ids[at:], node.slots[at:]
        return head

    def _free_upwards(self, node: Node | None) -> None:
        while node is not None and node.refs == 0:
            assert not node.locks, f"node {node.id} is released while a request runs on it"
            self.pool.give(node.slots)
            del self._nodes[node.id]
            if node.parent is not None:
                del node.parent.children[node.id]
            node = node.parent
