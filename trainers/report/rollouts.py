"""Recorded rollout trees as plain values for the script of a page, and the best and worst responses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rollout.tree import Segment
from rollout.tree_sample import TreeSample
from trainers.report.collect import StepSamples

MAX_TREES = 40
NUM_EXTREMES = 4
Values = dict[str, Any]  # what JSON can hold


def tree_values(sample: TreeSample, step: int) -> Values:
    """One tree: what the view shows of each segment and of each of its tokens."""
    tree = sample.tree
    scores = dict(zip(tree.leaves, sample.scores, strict=False))
    advantages = dict(zip(tree.leaves, sample.advantages, strict=False))
    texts: Sequence[Sequence[str | None]] = sample.token_texts or [
        [None] * len(segment.token_ids) for segment in tree.segments
    ]
    return {
        "step": step,
        "prompt": tree.prompt_id,
        "answer": tree.example.get("answer"),
        "sharing": tree.sharing_ratio,
        "fallback": tree.num_fallback_paths,
        "hasTexts": bool(sample.token_texts),
        "segments": [
            _segment(segment, texts[segment.id])
            | {"score": scores.get(segment.id), "advantage": advantages.get(segment.id)}
            for segment in tree.segments
        ],
    }


def _segment(segment: Segment, texts: Sequence[str | None]) -> Values:
    return {
        "parent": segment.parent,
        "finish": None if segment.finish is None else str(segment.finish),
        "tokens": [
            {"id": token, "text": text, "sampled": sampled, "logprob": logprob, "entropy": entropy}
            for token, text, sampled, logprob, entropy in zip(
                segment.token_ids,
                texts,
                segment.sampled,
                segment.logprobs,
                segment.entropies,
                strict=True,
            )
        ],
    }


def shown_trees(steps: Sequence[StepSamples]) -> list[Values]:
    """The recorded trees; of more than `MAX_TREES` an even choice that keeps first and last."""
    trees = [(sample, step.step) for step in steps for sample in step.samples]
    if len(trees) > MAX_TREES:
        last = len(trees) - 1
        trees = [trees[round(i * last / (MAX_TREES - 1))] for i in range(MAX_TREES)]
    return [tree_values(sample, step) for sample, step in trees]


def extremes(steps: Sequence[StepSamples]) -> tuple[list[Values], list[Values]]:
    """The best and the worst recorded responses, by score and then by advantage; one per tree."""
    responses = [
        found
        for step in steps
        for sample in step.samples
        for found in _responses(sample, step.step)
    ]
    best = _one_per_tree(sorted(responses, key=lambda r: (-r["score"], -r["advantage"])))
    worst = _one_per_tree(sorted(responses, key=lambda r: (r["score"], r["advantage"])))
    return best, worst


def _one_per_tree(responses: Iterable[Values]) -> list[Values]:
    first: dict[tuple[int, str], Values] = {}
    for response in responses:
        first.setdefault((response["step"], response["id"]), response)
    return list(first.values())[:NUM_EXTREMES]


def _responses(sample: TreeSample, step: int) -> Iterable[Values]:
    """Judged responses of a tree, with their texts."""
    if not sample.token_texts:
        return
    texts = sample.texts
    for leaf, score, advantage in zip(
        sample.tree.leaves, sample.scores, sample.advantages, strict=False
    ):
        if score is None:
            continue
        prompt, *path = sample.tree.path_of(leaf)
        yield {
            "step": step,
            "id": sample.tree.prompt_id,
            "prompt": texts[prompt],
            "text": "".join(texts[i] for i in path),
            "answer": sample.tree.example.get("answer"),
            "score": score,
            "advantage": advantage,
            "finish": str(sample.tree.segments[leaf].finish),
            "numTokens": sum(len(sample.tree.segments[i].token_ids) for i in path),
        }
