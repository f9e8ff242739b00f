"""Stable keys: the same words give the same number in every process, on every machine."""

from __future__ import annotations

import json
from hashlib import blake2b


def stable_key(*words: int | str) -> int:
    """Unsigned 64-bit hash of a sequence of integers and strings, equal everywhere and for ever.

    Python's own `hash` is salted per process and would make runs unrepeatable.

    Example: `stable_key(0, "a") != stable_key("0", "a")`; `stable_key("ab") != stable_key("a", "b")`.
    """
    text = json.dumps(words, separators=(",", ":"))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
