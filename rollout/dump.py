"""Rollout trees for people (indented text) and for programs (JSON lines)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TextIO

from rollout.tree import RolloutTree, Segment

Decode = Callable[[Sequence[int]], str]


def tree_text(
    tree: RolloutTree,
    decode: Decode,
    *,
    scores: Sequence[float | None] | None = None,
    advantages: Sequence[float] | None = None,
    max_chars: int = 80,
) -> str:
    r"""The tree as lines of ASCII shape, one per segment.

    Args:
        tree: The tree.
        decode: Token ids to text.
        scores: One per leaf, in the order of `tree.leaves`; None for a leaf: not judged.
        advantages: One per leaf, in the same order.
        max_chars: Longer texts are cut in the middle.

    Example::

        prompt q7: 4 leaves, 22 distinct of 38 row tokens (42.1% shared)
        0 [6] 'What is 2 + 2?'
        +- 1 [4] 'Let us'
        |  +- 3 [4] ' see: \\boxed{4}' finished score=1 adv=+0.500
        |  +- 4 [4] ' ...' max_tokens score=0 adv=-0.500
        +- 2 [4] '4' eos score=0 adv=-0.250
    """
    notes = _leaf_notes(tree, scores, advantages)
    children: dict[int, list[int]] = {segment.id: [] for segment in tree.segments}
    for segment in tree.segments[1:]:
        assert segment.parent is not None
        children[segment.parent].append(segment.id)
    lines = [_headline(tree)]
    stack = [(0, "", "")]
    while stack:
        segment_id, mark, indent = stack.pop()
        segment = tree.segments[segment_id]
        text = _shortened(decode(segment.token_ids), max_chars)
        lines.append(f"{mark}{_segment_label(segment)} {text}{notes.get(segment_id, '')}")
        below = children[segment_id]
        for child in reversed(below):
            bar = "   " if child == below[-1] else "|  "
            stack.append((child, f"{indent}+- ", indent + bar))
    return "\n".join(lines)


def write_jsonl(trees: Iterable[RolloutTree], file: TextIO) -> None:
    """Append one line per tree; the columns of its example must be JSON-able."""
    for tree in trees:
        file.write(json.dumps(tree.to_dict(), separators=(",", ":")) + "\n")


def read_jsonl(file: Iterable[str]) -> Iterator[RolloutTree]:
    """The trees that `write_jsonl` wrote; blank lines are skipped.

    Raises:
        ValueError: A line is not a tree; the message names the line.
    """
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            yield RolloutTree.from_dict(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"line {number} is not a rollout tree: {error!r}") from error


def _headline(tree: RolloutTree) -> str:
    return (
        f"prompt {tree.prompt_id}: {len(tree.leaves)} leaves, {tree.num_distinct_tokens} distinct "
        f"of {tree.num_trajectory_tokens} row tokens ({tree.sharing_ratio:.1%} shared), "
        f"{tree.num_fallback_paths} fallback paths"
    )


def _segment_label(segment: Segment) -> str:
    is_observation = segment.id > 0 and not segment.sampled[0]
    return f"{segment.id} [{len(segment.token_ids)}]{' env' if is_observation else ''}"


def _leaf_notes(
    tree: RolloutTree,
    scores: Sequence[float | None] | None,
    advantages: Sequence[float] | None,
) -> dict[int, str]:
    for name, values in (("scores", scores), ("advantages", advantages)):
        if values is not None and len(values) != len(tree.leaves):
            raise ValueError(
                f"{len(values)} {name} for {len(tree.leaves)} leaves; give one per leaf"
            )
    notes = {}
    for position, leaf in enumerate(tree.leaves):
        note = f" {tree.segments[leaf].finish}"
        if scores is not None:
            score = scores[position]
            note += " score=none" if score is None else f" score={score:g}"
        if advantages is not None:
            note += f" adv={advantages[position]:+.3f}"
        notes[leaf] = note
    return notes


def _shortened(text: str, max_chars: int) -> str:
    """`text` on one line in quotes, ASCII only, at most `max_chars` characters of it."""
    if len(text) > max_chars:
        half = max_chars // 2
        text = f"{text[:half]} ... {text[len(text) - half :]}"
    return ascii(text)
