"""Stable keys."""

from __future__ import annotations

from rollout.keys import stable_key


def test_keys_are_the_same_in_every_process() -> None:
    # printf '%s' '[0,"prompt",0,"path",1,0]' | b2sum -l 64
    assert stable_key(0, "prompt", 0, "path", 1, 0) == 0x9EA3F889771586E6


def test_word_boundaries_and_types_count() -> None:
    words: list[tuple[int | str, ...]] = [("ab",), ("a", "b"), (1, 2), (12,), ("1", 2), (1, 2, 0)]
    assert len({stable_key(*each) for each in words}) == len(words)


def test_keys_fill_64_bits() -> None:
    keys = [stable_key(i) for i in range(2000)]
    assert len(set(keys)) == 2000
    assert all(0 <= key < 2**64 for key in keys)
    ones = [sum(key >> bit & 1 for key in keys) for bit in range(64)]
    # 6 standard deviations of a fair coin thrown 2000 times: 6 * sqrt(500) = 134
    assert all(abs(count - 1000) < 134 for count in ones)
