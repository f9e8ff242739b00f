"""The slot pool: runs in order of memory, bounded waste, the hard limit."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.kv.pool import KVBudgetError, SlotPool


def test_branches_that_grow_in_turn_get_consecutive_slots_each() -> None:
    pool = SlotPool()
    pool.take(5)
    paths = [pool.take(1) for _ in range(4)]
    for _ in range(40):
        for path in paths:
            path += pool.take(1, path[-1])
    jumps = [sum(b != a + 1 for a, b in itertools.pairwise(p)) for p in paths]
    assert jumps == [2, 2, 2, 2]  # 41 tokens in pages of 16


def test_a_prompt_is_one_run() -> None:
    assert SlotPool().take(100) == list(range(100))


def test_free_slots_at_the_ends_of_pages_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.kv.pool._MIN_SCATTERED", 32)
    pool = SlotPool()
    for _ in range(500):
        pool.take(1)  # each would begin a page of its own
    assert pool.num_created <= 500 * 3 // 2 + 32 + 16


def test_freed_pages_are_used_again() -> None:
    pool = SlotPool()
    for _ in range(50):
        taken = pool.take(64)
        pool.give(taken)
    assert pool.num_created == 64 and pool.num_used == 0


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 99), st.integers(1, 40)), max_size=60),
    st.sampled_from([None, 37, 100]),
)
def test_slots_are_never_given_twice_and_never_lost(
    operations: list[tuple[bool, int, int]], limit: int | None
) -> None:
    pool = SlotPool(limit)
    held: list[list[int]] = []
    for is_take, pick, count in operations:
        if is_take and pool.fits(count):
            after = held[pick % len(held)][-1] if held else None
            held.append(pool.take(count, after))
        elif is_take:
            with pytest.raises(KVBudgetError):
                pool.take(count)
        elif held:
            pool.give(held.pop(pick % len(held)))
        owned = [slot for taken in held for slot in taken]
        assert len(owned) == len(set(owned)) == pool.num_used
        assert not set(owned) & pool.free_slots()
        assert len(owned) + len(pool.free_slots()) == pool.num_created
        assert limit is None or pool.num_created <= limit
