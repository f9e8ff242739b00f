"""Advantages of the leaves and nodes of one rollout tree: TreePO, its composition with DCPO, peers.

Sources: TreePO (arXiv 2508.17445, eq. 5), DCPO (2509.02333) for the root term of `dcpo_tree`,
SPO-tree (2505.23564), TreeRL (2506.11902), Tree-GRPO. All functions see ONE tree and work on plain
floats (float64); advantages.normalise_advantages handles the batch.

A path is the segment ids from the prompt to the leaf, both included (`Trajectory.path`); each id
has one parent. For leaf k and ancestor j (the leaf itself excluded), G_j is the set of leaves below
the ancestor, and d_j = R_k - mean(R over G_j). The prompt's group G_0 always counts, another one if
it has at least two leaves.

Deviations from TreePO's code:

* distinct_groups (default): a level where the path did not fork repeats the group above it and is
  counted once; the code counts it again (distinct_groups=False);
* an unscorable leaf (reward NaN) is left out of every group and gets advantage 0;
* a tree with one leaf has d_0 = R, as in the code; a scorable leaf whose siblings are all
  unscorable gets 0, since nothing can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

LeafPath = Sequence[Hashable]
"""Segment ids, prompt first, leaf last."""
GroupWeighting = Literal["average", "subgroup_size"]
EdgeKind = Literal["tree_edge", "treerl"]


@dataclass(frozen=True, slots=True)
class _Group:
    """The scorable leaves below a node."""

    size: int
    mean: float


def tree_advantages(
    paths: Sequence[LeafPath],
    rewards: Sequence[float],
    *,
    weighting: GroupWeighting = "average",
    distinct_groups: bool = True,
    leaf_weights: Sequence[float] | None = None,
) -> list[float]:
    """Return TreePO's advantage of every leaf, before batch normalisation.

    TreePO, arXiv 2508.17445, eq. 5: a_k = mean over the groups of d_j ("average", the default of
    the paper), or sum |G_j| d_j / sum |G_j| ("subgroup_size"). One number per leaf, for all its
    tokens.

    Args:
        paths: LeafPath of each leaf.
        rewards: Reward of each leaf; NaN = unscorable, advantage 0.
        weighting: How the groups are averaged.
        distinct_groups: Count groups with the same leaves once.
        leaf_weights: Weights of the leaves in the group means (`inverse_fork_weights`); None = equal.

    Raises:
        ValueError: No leaf, lengths differ, a path is repeated, or a leaf has leaves below it.

    Example: leaves a/x 1, a/y 0, b 0 give 0.583333, -0.416667, -0.333333.
    """
    groups = _groups_by_node(paths, rewards, leaf_weights)

    def advantage(path: LeafPath, reward: float) -> float:
        if math.isnan(reward):
            return 0.0
        counted = _counted_groups(path, groups, distinct_groups)
        weights = [group.size if weighting == "subgroup_size" else 1 for group in counted]
        terms = [w * (reward - group.mean) for w, group in zip(weights, counted, strict=True)]
        return math.fsum(terms) / sum(weights)

    if len(paths) == 1:
        return [0.0 if math.isnan(rewards[0]) else rewards[0]]
    return [advantage(path, reward) for path, reward in zip(paths, rewards, strict=True)]


def dcpo_tree_advantages(
    paths: Sequence[LeafPath],
    rewards: Sequence[float],
    smooth: Sequence[float],
    sigma_total: float,
    *,
    distinct_groups: bool = True,
    leaf_weights: Sequence[float] | None = None,
) -> list[float]:
    """Return the composition of DCPO's smooth advantage at the root with TreePO's sub-groups.

    a_k = (SAS_k + sum over counted sub-groups of d_j / sigma_total) / number of counted groups.
    This is an experiment of this project, in neither paper. In a tree whose rewards are all equal
    SAS_k is returned undivided, for the sub-groups have nothing to add and would dilute it by depth.
    Do not whiten the result: that would remove the mean which SAS creates on purpose.

    Args:
        paths: As in `tree_advantages`.
        rewards: As in `tree_advantages`.
        smooth: SAS_k of each leaf (`smooth_advantages` or `PromptStore.visit`).
        sigma_total: Std of all rewards of the prompt after this visit; the sub-groups give 0 if it is 0.
        distinct_groups: As in `tree_advantages`.
        leaf_weights: As in `tree_advantages`.

    Raises:
        ValueError: As in `tree_advantages`.
    """
    groups = _groups_by_node(paths, rewards, leaf_weights)
    is_uniform = len({reward for reward in rewards if not math.isnan(reward)}) <= 1

    def advantage(path: LeafPath, reward: float, root_term: float) -> float:
        if math.isnan(reward):
            return 0.0
        if is_uniform:
            return root_term
        counted = _counted_groups(path, groups, distinct_groups)
        deviations = [reward - group.mean for group in counted[1:]] if sigma_total > 0 else []
        return math.fsum([root_term, *(d / sigma_total for d in deviations)]) / len(counted)

    return [advantage(*leaf) for leaf in zip(paths, rewards, smooth, strict=True)]


def inverse_fork_weights(paths: Sequence[LeafPath]) -> list[float]:
    """Return the weight of each leaf: product along its path of 1 / (children of the parent).

    The weights sum to 1. Weighted with them, the mean reward of the leaves is the bottom-up mean of
    child means, which is free of the bias towards long paths that forking live paths creates.

    Raises:
        ValueError: As in `tree_advantages`.
    """
    _check_paths(paths)
    children: dict[Hashable, set[Hashable]] = {}
    for path in paths:
        for parent, child in pairwise(path):
            children.setdefault(parent, set()).add(child)
    return [1.0 / math.prod(len(children[node]) for node in path[:-1]) for path in paths]


def node_advantage_sums(
    paths: Sequence[LeafPath], advantages: Sequence[float]
) -> dict[Hashable, tuple[float, float]]:
    """Return (A+, A-) of every segment: sums of positive and of negative advantages of its leaves.

    The pair is what `losses.tree_token_loss` needs to train each tree token once.

    Raises:
        ValueError: As in `tree_advantages`.
    """
    _check_paths(paths)
    below: dict[Hashable, list[float]] = {}
    for path, advantage in zip(paths, advantages, strict=True):
        for node in path:
            below.setdefault(node, []).append(advantage)
    return {
        node: (math.fsum(a for a in leaves if a > 0), math.fsum(a for a in leaves if a < 0))
        for node, leaves in below.items()
    }


def node_values(
    paths: Sequence[LeafPath],
    rewards: Sequence[float],
    *,
    leaf_weights: Sequence[float] | None = None,
) -> dict[Hashable, float]:
    """Return V of every segment: the mean reward of the scorable leaves below it (NaN if none).

    Raises:
        ValueError: As in `tree_advantages`.
    """
    groups = _groups_by_node(paths, rewards, leaf_weights)
    return {node: group.mean for node, group in groups.items()}


def edge_advantages(
    paths: Sequence[LeafPath], rewards: Sequence[float], kind: EdgeKind
) -> dict[Hashable, float]:
    """Return one advantage per segment (the prompt excluded) from node values V.

    "tree_edge" (SPO-tree, arXiv 2505.23564, without its std and replay): V(n) - V(parent).
    "treerl" (TreeRL, arXiv 2506.11902): (V(n) - V(root) + V(n) - V(parent)) / sqrt(leaves below n).
    A segment without scorable leaves gets 0.

    Raises:
        ValueError: As in `tree_advantages`.
    """
    groups = _groups_by_node(paths, rewards, None)
    root = groups[paths[0][0]]
    edges: dict[Hashable, float] = {}
    for path in paths:
        for parent, node in pairwise(path):
            group = groups[node]
            step = group.mean - groups[parent].mean if group.size else 0.0
            if kind == "treerl" and group.size:
                step = (group.mean - root.mean + step) / math.sqrt(group.size)
            edges[node] = step
    return edges


def _groups_by_node(
    paths: Sequence[LeafPath], rewards: Sequence[float], leaf_weights: Sequence[float] | None
) -> Mapping[Hashable, _Group]:
    _check_paths(paths)
    weights = [1.0] * len(paths) if leaf_weights is None else leaf_weights
    below: dict[Hashable, list[tuple[float, float]]] = {}
    for path, reward, weight in zip(paths, rewards, weights, strict=True):
        for node in path:
            leaves = below.setdefault(node, [])
            if not math.isnan(reward):
                leaves.append((reward, weight))
    return {node: _Group(len(leaves), _weighted_mean(leaves)) for node, leaves in below.items()}


def _weighted_mean(leaves: Sequence[tuple[float, float]]) -> float:
    """Exact for equal rewards, so that a uniform group gives exactly 0."""
    if not leaves:
        return math.nan
    if min(leaves)[0] == max(leaves)[0]:
        return leaves[0][0]
    total = math.fsum(weight for _, weight in leaves)
    return math.fsum(reward * weight for reward, weight in leaves) / total


def _counted_groups(
    path: LeafPath, groups: Mapping[Hashable, _Group], distinct_groups: bool
) -> list[_Group]:
    """Root group first. Groups along a path are nested: equal sizes mean equal sets."""
    counted = [groups[path[0]]]
    for node in path[1:-1]:
        group = groups[node]
        if group.size >= 2 and not (distinct_groups and group.size == counted[-1].size):
            counted.append(group)
    return counted


def _check_paths(paths: Sequence[LeafPath]) -> None:
    if not paths:
        raise ValueError("a rollout tree without leaves has no advantages; drop the prompt")
    inner = {node for path in paths for node in path[:-1]}
    leaves = [path[-1] for path in paths]
    if len(set(leaves)) < len(leaves) or inner & set(leaves):
        raise ValueError(
            f"leaf ids {leaves} must be distinct and without leaves below them; give every path its "
            "own last segment"
        )
    if len({path[0] for path in paths}) > 1:
        raise ValueError(
            f"paths start at {sorted({str(path[0]) for path in paths})}; pass the leaves of one "
            "tree, with the prompt segment first"
        )
