"""A rollout tree with what a person wants to read beside it: texts, scores and advantages."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollout.tree import RolloutTree

Decode = Callable[[Sequence[int]], str]
_INCOMPLETE = "\ufffd"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeSample:
    """A tree, its texts, and the score and advantage of each leaf.

    Example: a tree of prompt "2+2=" and two leaves "4" and "five" has `texts` ("2+2=", "4", "five"),
    `scores` (1.0, None) if the second could not be judged, and `advantages` (0.5, -0.5).
    """

    tree: RolloutTree
    token_texts: tuple[tuple[str, ...], ...]
    """For each segment the text that each of its tokens adds; empty where none was recorded."""
    scores: tuple[float | None, ...]
    """One per leaf, in the order of `tree.leaves`; None: not judged. Empty: not recorded."""
    advantages: tuple[float, ...]
    """One per leaf, in the same order. Empty: not recorded."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The text of each segment; empty where none was recorded."""
        return tuple("".join(parts) for parts in self.token_texts)

    def to_dict(self) -> dict[str, Any]:  # JSON has no static type
        """What `RolloutTree.to_dict` gives, and texts, scores and advantages beside it."""
        return {
            **self.tree.to_dict(),
            "texts": list(self.texts),
            "token_texts": [list(parts) for parts in self.token_texts],
            "scores": list(self.scores),
            "advantages": list(self.advantages),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TreeSample:  # JSON has no static type
        """The sample that `to_dict` wrote; a tree written on its own has nothing beside it."""
        return cls(
            tree=RolloutTree.from_dict(values),
            token_texts=tuple(tuple(parts) for parts in values.get("token_texts", ())),
            scores=tuple(values.get("scores", ())),
            advantages=tuple(values.get("advantages", ())),
        )


def annotate(
    tree: RolloutTree,
    decode: Decode,
    *,
    scores: Sequence[float | None],
    advantages: Sequence[float],
) -> TreeSample:
    """Put texts, scores and advantages beside a tree.

    Args:
        tree: The tree.
        decode: Token ids to text.
        scores: One per leaf, in the order of `tree.leaves`; None or NaN for a leaf: not judged.
        advantages: One per leaf, in the same order.

    Raises:
        ValueError: not one score and one advantage per leaf.
    """
    for name, values in (("scores", scores), ("advantages", advantages)):
        if len(values) != len(tree.leaves):
            raise ValueError(
                f"{len(values)} {name} for {len(tree.leaves)} leaves; give one per leaf"
            )
    return TreeSample(
        tree=tree,
        token_texts=tuple(token_texts(segment.token_ids, decode) for segment in tree.segments),
        scores=tuple(None if x is None or math.isnan(x) else x for x in scores),
        advantages=tuple(advantages),
    )


def token_texts(token_ids: Sequence[int], decode: Decode) -> tuple[str, ...]:
    """The text that each token adds; joined they are exactly `decode(token_ids)`.

    A token that ends inside a character adds nothing, the one that completes it adds it all. Each
    token is decoded behind the one before it, because some tokenizers drop a leading space.

    Example: UTF-8 bytes C3 A9 as two tokens give ("", "e with acute accent").
    """
    parts: list[str] = []
    first = shown = 0  # the window that is decoded starts at `first`; texts up to `shown` are out
    for end in range(1, len(token_ids) + 1):
        text = decode(token_ids[first:end])
        if text.endswith(_INCOMPLETE):
            parts.append("")
            continue
        parts.append(text[len(decode(token_ids[first:shown])) :])
        first, shown = shown, end
    return _made_to_join(parts, decode(token_ids))


def _made_to_join(parts: list[str], whole: str) -> tuple[str, ...]:
    """`parts`, completed to `whole`; the whole text at the first token where they contradict it."""
    joined = "".join(parts)
    if not parts:
        return ()
    if not whole.startswith(joined):
        return (whole, *("" for _ in parts[1:]))
    return (*parts[:-1], parts[-1] + whole[len(joined) :])
