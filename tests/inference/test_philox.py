"""Counter-based uniforms and stable keys."""

import numpy as np
import pytest

from inference.philox import path_key, philox4x32, uniforms

# known-answer vectors of the Random123 distribution (kat_vectors, philox4x32 with 10 rounds)
KNOWN_ANSWERS = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers_of_random123(
    counter: list[int], key: list[int], expected: list[int]
) -> None:
    words = philox4x32(
        np.array(counter, dtype=np.uint64)[:, None], np.array(key, dtype=np.uint64)[:, None]
    )
    assert words[:, 0].tolist() == expected


def test_a_uniform_does_not_depend_on_its_neighbours() -> None:
    keys, positions = [3, 2**64 - 1, 7], [0, 5, 2**40]
    together = uniforms(keys, positions)
    alone = [uniforms([key], [pos])[0] for key, pos in zip(keys, positions, strict=True)]
    assert together.tolist() == alone


def test_the_first_uniform_of_key_zero_is_the_top_53_bits_of_the_known_answer() -> None:
    expected = ((0x6627E8D5 >> 5) * 2**26 + (0xE169C58D >> 6)) / 2**53
    assert uniforms([0], [0])[0] == expected


def test_uniforms_fill_twenty_bins_evenly() -> None:
    draws = uniforms([path_key("bins")] * 20000, range(20000))
    observed = np.bincount((draws * 20).astype(int), minlength=20)
    chi_square = ((observed - 1000.0) ** 2 / 1000.0).sum()
    # 19 degrees of freedom: mean 19, variance 38; mean + 5 standard deviations
    assert chi_square < 19 + 5 * 38**0.5
    assert draws.min() >= 0.0 and draws.max() < 1.0


def test_path_keys_are_stable_and_separate_types_and_borders() -> None:
    assert path_key(1, "a") == path_key(1, "a")
    assert path_key("a", 0) == 2814023486346025072  # frozen: runs recorded with it must repeat
    assert path_key(int(np.int64(7))) == path_key(np.int64(7))  # type: ignore[arg-type]  # numpy int
    assert len({path_key(1), path_key("1"), path_key("ab", "c"), path_key("a", "bc")}) == 4
    assert all(0 <= path_key(i) < 2**64 for i in range(100))
