"""The tree cache: sharing, splitting, releasing, evicting, counting."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.kv.cache import Node, TreeCache
from inference.kv.pool import KVBudgetError, SlotPool


def compute(cache: TreeCache, tip: Node) -> None:
    """Give slots to every token on a path that has none, as a forward would."""
    for node in reversed(list(tip.ancestry())):
        node.slots += cache.pool.take(len(node.token_ids) - len(node.slots))


def grow(cache: TreeCache, node: Node, token_ids: list[int]) -> Node:
    tip = cache.extend(node, token_ids)
    compute(cache, tip)
    return tip


def test_small_tree_has_the_documented_reference_counts_and_sizes() -> None:
    cache = TreeCache(SlotPool())
    prompt = cache.open(range(6))
    compute(cache, prompt)
    cache.attach(prompt, 2)
    cache.release(prompt)  # the handle on the prompt itself
    a = grow(cache, prompt, [1] * 4)
    b = grow(cache, prompt, [2] * 4)
    cache.attach(a, 2)
    cache.release(a)
    a1, a2 = grow(cache, a, [3] * 4), grow(cache, a, [4] * 4)
    assert [node.refs for node in (prompt, a, b, a1, a2)] == [2, 2, 1, 1, 1]
    assert cache.num_tokens == cache.pool.num_used == 22
    assert 1 - 22 / sum(leaf.end for leaf in (a1, a2, b)) == pytest.approx(0.421053, abs=1e-6)
    cache.check()
    cache.release(b)
    assert (prompt.refs, cache.pool.num_used) == (1, 18)
    cache.release(a1)
    assert (a.refs, cache.pool.num_used) == (1, 14)
    cache.release(a2)
    assert (cache.nodes, cache.pool.num_used) == ((), 0)
    cache.check()
    with pytest.raises(ValueError, match="released before"):
        cache.release(a2)


def test_the_sole_holder_appends_in_place_and_others_get_a_child() -> None:
    cache = TreeCache(SlotPool())
    root = cache.open([1, 2])
    assert cache.extend(root, [3]) is root
    cache.attach(root)
    child = cache.extend(root, [4])
    assert child is not root and child.parent is root and root.token_ids == [1, 2, 3]
    assert cache.extend(root, [5]) is not root  # root has a child now
    cache.check()


def test_split_cuts_without_moving_slots() -> None:
    cache = TreeCache(SlotPool())
    root = cache.open([1, 2, 3, 4])
    compute(cache, root)
    slots = list(root.slots)
    head = cache.locate(root, 3)
    cache.attach(head)
    assert (head.token_ids, root.token_ids) == ([1, 2, 3], [4])
    assert head.slots + root.slots == slots
    assert root.path_token_ids() == [1, 2, 3, 4]
    assert cache.locate(root, 3) is head and cache.locate(root, 4) is root
    cache.check()
    cache.release(root)
    assert cache.pool.num_used == 3
    cache.release(head)
    assert cache.pool.num_used == 0


def test_eviction_takes_leaves_first_and_spares_locked_nodes() -> None:
    cache = TreeCache(SlotPool(6))
    root = cache.open([1, 2])
    cache.attach(root, 2)
    cache.release(root)
    left, right = grow(cache, root, [3, 4]), grow(cache, root, [5, 6])
    cache.lock(left)
    assert not root.is_idle and right.is_idle
    assert cache.make_room(2) and right.slots == [] and left.slots and root.slots
    assert not cache.make_room(3)
    cache.unlock(left)
    assert cache.make_room(6) and cache.pool.num_used == 0
    cache.check()


def test_the_least_recently_used_leaf_goes_first() -> None:
    cache = TreeCache(SlotPool(4))
    old, new = cache.open([1, 2]), cache.open([3, 4])
    for node in (new, old, new):
        compute(cache, node)
        cache.lock(node)
        cache.unlock(node)
    assert cache.make_room(1)
    assert old.slots == [] and len(new.slots) == 2


def test_a_full_pool_raises_with_numbers() -> None:
    pool = SlotPool(4)
    pool.take(3)
    with pytest.raises(
        KVBudgetError, match=r"2 more .* 1 of the budget of 4 .* at least 5"
    ) as error:
        pool.take(2)
    assert (error.value.needed, error.value.free, error.value.budget) == (2, 1, 4)
    assert pool.num_used == 3


def test_clear_gives_everything_back() -> None:
    cache = TreeCache(SlotPool())
    root = cache.open([1, 2, 3])
    compute(cache, root)
    cache.lock(root)
    cache.clear()
    assert cache.pool.num_used == 0
    cache.check()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 99), st.integers(1, 5)), max_size=60))
def test_invariants_hold_after_any_sequence_of_operations(
    operations: list[tuple[int, int, int]],
) -> None:
    cache = TreeCache(SlotPool())
    paths: list[tuple[Node, list[int]]] = []  # tip and the tokens that the path must have
    for kind, pick, size in operations:
        if kind == 0 or not paths:
            tokens = list(range(size))
            paths.append((cache.open(tokens), tokens))
            continue
        index = pick % len(paths)
        tip, tokens = paths[index]
        if kind == 1:
            paths[index] = (cache.extend(tip, [pick] * size), tokens + [pick] * size)
        elif kind == 2:
            length = 1 + pick % len(tokens)
            node = cache.locate(tip, length)
            cache.attach(node)
            paths.append((node, tokens[:length]))
        elif kind == 3:
            compute(cache, tip)
        else:
            cache.release(tip)
            del paths[index]
        cache.check()
        assert all(tip.path_token_ids() == tokens for tip, tokens in paths)
    prefixes = {id(node) for tip, _ in paths for node in tip.ancestry()}
    assert len(cache.nodes) == len(prefixes)
    for tip, _ in paths:
        cache.release(tip)
    assert cache.nodes == () and cache.pool.num_used == 0
