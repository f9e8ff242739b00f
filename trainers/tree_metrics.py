"""What a rollout batch says about its trees once the rewards are known (TreePO, arXiv 2508.17445).

Leaves whose reward is NaN are left out everywhere.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from trainers.leaf_groups import LeafGroup

MAX_DEPTH = 8
"""Depths of their own in the metrics; deeper groups are left out."""


def tree_metrics(groups: Sequence[LeafGroup]) -> dict[str, float]:
    """The numbers to log, from the leaves of all ranks.

    * tree/leaf_reward_mean: mean reward, every leaf counts once, mean over prompts.
    * tree/inverse_fork_reward_mean: the same with leaf weights that undo the over-representation of
      long paths; a gap to the former is the bias of the leaf average.
    * tree/uniform_frac_depth_<d>: share of the groups at depth d (0: whole prompts; below, the
      leaves under one segment, at least two and fewer than under its parent) in which all rewards
      are equal; depths without groups are absent.
    * tree/response_tokens_better, tree/response_tokens_worse: mean response length of leaves with a
      reward above, below the mean of their prompt; absent without such leaves.
    """
    means = [(_mean(g.rewards), _weighted_mean(g.rewards, g.fork_weights)) for g in groups]
    known = [pair for pair in means if not math.isnan(pair[0])]
    metrics = {}
    if known:
        metrics["tree/leaf_reward_mean"] = _mean([plain for plain, _ in known])
        metrics["tree/inverse_fork_reward_mean"] = _mean([weighted for _, weighted in known])
    for depth, share in uniform_shares(groups).items():
        metrics[f"tree/uniform_frac_depth_{depth}"] = share
    better, worse = _lengths_by_reward(groups)
    if better:
        metrics["tree/response_tokens_better"] = _mean(better)
    if worse:
        metrics["tree/response_tokens_worse"] = _mean(worse)
    return metrics


def uniform_shares(groups: Sequence[LeafGroup]) -> dict[int, float]:
    """Share of groups without two different rewards, by depth; see `tree_metrics`."""
    counts: Counter[int] = Counter()
    uniform: Counter[int] = Counter()
    for group in groups:
        for depth, rewards in _reward_groups(group):
            counts[depth] += 1
            uniform[depth] += len(set(rewards)) == 1
    return {depth: uniform[depth] / num for depth, num in sorted(counts.items())}


def _reward_groups(group: LeafGroup) -> Iterator[tuple[int, list[float]]]:
    """(depth, rewards) of the prompt and of every segment whose leaves are a group of their own."""
    leaves_of: dict[tuple[int, int], list[float]] = {}
    parent_of: dict[tuple[int, int], tuple[int, int] | None] = {}
    for path, reward in zip(group.paths, group.rewards, strict=True):
        if math.isnan(reward):
            continue
        nodes = list(enumerate(path[:-1]))[:MAX_DEPTH]
        for parent, node in zip([None, *nodes], nodes, strict=False):
            leaves_of.setdefault(node, []).append(reward)
            parent_of[node] = parent
    for node, rewards in leaves_of.items():
        parent = parent_of[node]
        if parent is None or 2 <= len(rewards) < len(leaves_of[parent]):
            yield node[0], rewards


def _lengths_by_reward(groups: Sequence[LeafGroup]) -> tuple[list[int], list[int]]:
    better, worse = [], []
    for group in groups:
        mean = _mean(group.rewards)
        for reward, length in zip(group.rewards, group.num_tokens, strict=True):
            if reward > mean:
                better.append(length)
            elif reward < mean:
                worse.append(length)
    return better, worse


def _mean(values: Sequence[float]) -> float:
    return _weighted_mean(values, [1.0] * len(values))


def _weighted_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    known = [(v, w) for v, w in zip(values, weights, strict=True) if not math.isnan(v)]
    if not known:
        return math.nan
    return math.fsum(v * w for v, w in known) / math.fsum(w for _, w in known)
