"""Philox4x32-10: uniform numbers that depend only on a key and a position.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), section 3.3. The number that
draws a token is a pure function of (key of the request, position of the token), so results do not
depend on which other requests share a batch, on their order, or on how often work is repeated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

ROUNDS = 10
_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint64(0x9E3779B9)
_WEYL_1 = np.uint64(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox4x32(counter: NDArray[np.uint64], key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return four 32-bit words per row.

    Args:
        counter: [4, R] uint64 that hold 32-bit words.
        key: [2, R] uint64 that hold 32-bit words.

    Returns:
        [4, R] uint64 that hold 32-bit words.
    """
    word_0, word_1, word_2, word_3 = counter
    key_0, key_1 = key
    for _ in range(ROUNDS):
        product_0, product_1 = word_0 * _MULTIPLIER_0, word_2 * _MULTIPLIER_1
        word_0, word_2 = (
            (product_1 >> _SHIFT) ^ word_1 ^ key_0,
            (product_0 >> _SHIFT) ^ word_3 ^ key_1,
        )
        word_1, word_3 = product_1 & _LOW, product_0 & _LOW
        key_0, key_1 = (key_0 + _WEYL_0) & _LOW, (key_1 + _WEYL_1) & _LOW
    return np.stack([word_0, word_1, word_2, word_3])


def uniforms(keys: ArrayLike, positions: ArrayLike) -> NDArray[np.float64]:
    """Return one uniform number in [0, 1) per (key, position), with 53 random bits.

    Args:
        keys: [R] integers in [0, 2**64).
        positions: [R] integers in [0, 2**64).

    Returns:
        [R] float64.
    """
    key_R = np.asarray(keys, dtype=np.uint64)
    position_R = np.asarray(positions, dtype=np.uint64)
    zero_R = np.zeros_like(position_R)
    counter = np.stack([position_R & _LOW, position_R >> _SHIFT, zero_R, zero_R])
    words = philox4x32(counter, np.stack([key_R & _LOW, key_R >> _SHIFT]))
    high, low = words[0] >> np.uint64(5), words[1] >> np.uint64(6)
    mantissa = high * np.uint64(1 << 26) + low
    return mantissa.astype(np.float64) * 2.0**-53


def path_key(*parts: int | str) -> int:
    """Return a stable 64-bit key made of parts such as seed, prompt id and branch numbers.

    The same parts give the same key in every process and on every machine. The integer 1 and the
    text "1" give different keys, and ("ab", "c") differs from ("a", "bc").
    """
    digest = hashlib.blake2b(_encoded(parts), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _encoded(parts: Sequence[int | str]) -> bytes:
    texts = [(f"s{part}" if isinstance(part, str) else f"i{int(part)}").encode() for part in parts]
    return b"".join(len(text).to_bytes(8, "little") + text for text in texts)
