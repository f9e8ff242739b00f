"""Tree advantages: worked trees, the per-segment identity, peers, and degenerate trees."""

from __future__ import annotations

import math
import random
from itertools import product

import pytest
import torch

from trainers.advantages import RewardStats, describe_rewards, group_advantages, smooth_advantages
from trainers.tree_advantages import (
    EdgeKind,
    GroupWeighting,
    dcpo_tree_advantages,
    edge_advantages,
    inverse_fork_weights,
    node_advantage_sums,
    node_values,
    tree_advantages,
)

NAN = math.nan


def _paths(*texts: str) -> list[tuple[str, ...]]:
    """Node ids that name the whole way from the prompt: unique, one parent each."""
    paths = []
    for text in texts:
        names = text.split("/")
        paths.append(("", *("/".join(names[: k + 1]) for k in range(len(names)))))
    return paths


IRREGULAR = _paths("a/a1/x1", "a/a1/x2", "a/a2", "b/b1/y1/z1", "b/b1/y1/z2", "c")
REWARDS = [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
BINARY = _paths(*("/".join(steps) for steps in product(["a", "b"], ["1", "2"], ["l", "r"])))
BINARY_REWARDS = [1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("weighting", "distinct", "expected"),
    [
        ("average", False, [0.5, -0.5, 0.5, -0.083333, -0.083333, -0.333333]),
        ("average", True, [0.5, -0.5, 0.5, -0.166667, -0.166667, -0.333333]),
        (
            "subgroup_size",
            False,
            [0.545455, -0.454545, 0.555556, -0.166667, -0.166667, -0.333333],
        ),
    ],
)
def test_irregular_tree_matches_the_worked_example(
    weighting: GroupWeighting, distinct: bool, expected: list[float]
) -> None:
    got = tree_advantages(IRREGULAR, REWARDS, weighting=weighting, distinct_groups=distinct)
    assert got == pytest.approx(expected, abs=6e-7)


def test_distinct_groups_is_the_default_and_average_too() -> None:
    explicit = tree_advantages(IRREGULAR, REWARDS, weighting="average", distinct_groups=True)
    assert tree_advantages(IRREGULAR, REWARDS) == explicit


def test_balanced_binary_tree_matches_the_worked_example() -> None:
    expected = [0.375, 0.375, -0.291667, -0.291667, 0.625, -0.375, -0.208333, -0.208333]
    assert tree_advantages(BINARY, BINARY_REWARDS) == pytest.approx(expected, abs=6e-7)


def test_inverse_fork_weights_match_the_worked_example() -> None:
    weights = inverse_fork_weights(IRREGULAR)
    assert weights == pytest.approx([1 / 12, 1 / 12, 1 / 6, 1 / 6, 1 / 6, 1 / 3], abs=1e-15)
    values = node_values(IRREGULAR, REWARDS, leaf_weights=weights)
    assert (values[""], values["a"]) == pytest.approx((0.25, 0.75), abs=1e-15)
    plain = node_values(IRREGULAR, REWARDS)
    assert (plain[""], plain["a"]) == pytest.approx((1 / 3, 2 / 3), abs=1e-15)


def test_weighted_baselines_match_the_worked_example() -> None:
    got = tree_advantages(
        IRREGULAR,
        REWARDS,
        distinct_groups=False,
        leaf_weights=inverse_fork_weights(IRREGULAR),
    )
    assert got == pytest.approx([0.5, -0.5, 0.5, -0.0625, -0.0625, -0.25], abs=1e-12)


def _random_tree(rng: random.Random) -> list[tuple[str, ...]]:
    active, leaves = [""], []
    while active:
        node = active.pop()
        if node.count("/") >= 4 or (node and rng.random() < 0.3):
            leaves.append(node)
        else:
            active += [f"{node}/{child}" for child in range(rng.randint(1, 3))]
    return _paths(*(leaf[1:] for leaf in leaves))


@pytest.mark.parametrize("seed", range(20))
def test_inverse_fork_weights_sum_to_one_and_give_the_bottom_up_mean(seed: int) -> None:
    rng = random.Random(seed)
    paths = _random_tree(rng)
    rewards = [rng.random() for _ in paths]
    weights = inverse_fork_weights(paths)

    def bottom_up(node: str, depth: int) -> float:
        below = {
            p[depth + 1] for p in paths if p[depth : depth + 1] == (node,) and len(p) > depth + 1
        }
        if not below:
            return rewards[[p[-1] for p in paths].index(node)]
        return sum(bottom_up(child, depth + 1) for child in below) / len(below)

    assert math.fsum(weights) == pytest.approx(1.0, abs=1e-12)
    weighted = sum(w * r for w, r in zip(weights, rewards, strict=True))
    assert weighted == pytest.approx(bottom_up("", 0), abs=1e-12)


def _slow_advantage(paths: list[tuple[str, ...]], rewards: list[float], k: int) -> float:
    """TreePO eq. 5 by prefix comparison, every level, average."""
    terms = []
    for j in range(len(paths[k]) - 1):
        group = [r for p, r in zip(paths, rewards, strict=True) if p[: j + 1] == paths[k][: j + 1]]
        if j == 0 or len(group) >= 2:
            terms.append(rewards[k] - sum(group) / len(group))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("seed", range(20))
def test_random_trees_agree_with_prefix_comparison(seed: int) -> None:
    rng = random.Random(100 + seed)
    paths = _random_tree(rng)
    rewards = [rng.choice([-1.0, 0.0, 1.0]) for _ in paths]
    got = tree_advantages(paths, rewards, distinct_groups=False)
    if len(paths) > 1:
        expected = [_slow_advantage(paths, rewards, k) for k in range(len(paths))]
        assert got == pytest.approx(expected, abs=1e-12)


def test_advantages_do_not_depend_on_the_order_of_the_leaves() -> None:
    order = random.Random(0).sample(range(6), k=6)
    paths, rewards = [IRREGULAR[k] for k in order], [REWARDS[k] for k in order]
    expected = tree_advantages(IRREGULAR, REWARDS)
    assert tree_advantages(paths, rewards) == [expected[k] for k in order]


def test_node_sums_match_the_worked_example() -> None:
    advantages = tree_advantages(IRREGULAR, REWARDS, distinct_groups=False)
    sums = node_advantage_sums(IRREGULAR, advantages)
    expected = {
        "a": (1.0, -0.5),
        "b": (0.0, -0.166667),
        "c": (0.0, -0.333333),
        "a/a1": (0.5, -0.5),
        "a/a2": (0.5, 0.0),
    }
    for node, pair in expected.items():
        assert sums[node] == pytest.approx(pair, abs=6e-7)


def test_node_sums_of_the_binary_tree_match_the_worked_example() -> None:
    sums = node_advantage_sums(BINARY, tree_advantages(BINARY, BINARY_REWARDS))
    net = {node: sum(pair) for node, pair in sums.items()}
    expected = {"a": 1 / 6, "b": -1 / 6, "a/1": 0.75, "a/2": -7 / 12, "b/1": 0.25, "b/2": -5 / 12}
    assert {node: net[node] for node in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_segment_sums_follow_the_identity_on_balanced_trees(seed: int, depth: int) -> None:
    rng = random.Random(seed)
    paths = _paths(*("/".join(steps) for steps in product("012", *["01"] * depth)))
    rewards = [rng.random() for _ in paths]
    sums = node_advantage_sums(paths, tree_advantages(paths, rewards))
    values = node_values(paths, rewards)
    num_leaves = {node: sum(node in path for path in paths) for node in values}
    num_groups = depth + 1
    for path in paths:
        for level in range(1, len(path) - 1):
            node = path[level]
            gap = sum(values[node] - values[ancestor] for ancestor in path[:level])
            assert sum(sums[node]) == pytest.approx(num_leaves[node] * gap / num_groups, abs=1e-12)


PEERS = {
    "a": (0.125, 0.125),
    "b": (-0.125, -0.125),
    "a/1": (0.5, 0.795495),
    "a/2": (-0.5, -0.618718),
    "b/1": (0.25, 0.265165),
    "b/2": (-0.25, -0.441942),
    "b/1/l": (0.5, 1.125),
    "b/1/r": (-0.5, -0.875),
    "a/1/l": (0.0, 0.625),
    "a/1/r": (0.0, 0.625),
}


@pytest.mark.parametrize(("kind", "column"), [("tree_edge", 0), ("treerl", 1)])
def test_peers_match_the_worked_example(kind: EdgeKind, column: int) -> None:
    edges = edge_advantages(BINARY, BINARY_REWARDS, kind)
    expected = {node: numbers[column] for node, numbers in PEERS.items()}
    assert {node: edges[node] for node in expected} == pytest.approx(expected, abs=6e-7)
    assert set(edges) == {node for path in BINARY for node in path[1:]}


def test_mean_treepo_advantage_per_row_matches_the_worked_example() -> None:
    sums = node_advantage_sums(BINARY, tree_advantages(BINARY, BINARY_REWARDS))
    per_row = {node: sum(pair) / sum(node in p for p in BINARY) for node, pair in sums.items()}
    expected = {"a": 0.041667, "a/1": 0.375, "a/2": -0.291667, "b/1": 0.125, "b/2": -0.208333}
    assert {node: per_row[node] for node in expected} == pytest.approx(expected, abs=6e-7)


def test_tree_grpo_is_the_sum_of_two_group_advantages() -> None:
    rewards = torch.tensor(BINARY_REWARDS)
    by_prompt = group_advantages(rewards[None], scale="sample", epsilon=1e-6).flatten()
    by_tree = group_advantages(rewards.view(2, 4), scale="sample", epsilon=1e-6).flatten()
    expected = [2.073636] * 2 + [-1.590591] * 2 + [2.707609] + [-1.224566] * 3
    assert (by_prompt + by_tree).tolist() == pytest.approx(expected, abs=6e-7)


@pytest.mark.parametrize("kind", ["tree_edge", "treerl"])
def test_edges_of_segments_without_scorable_leaves_are_zero(kind: EdgeKind) -> None:
    edges = edge_advantages(IRREGULAR, [1.0, 0.0, 1.0, NAN, NAN, 0.0], kind)
    assert [edges[node] for node in ("b", "b/b1", "b/b1/y1/z1")] == [0.0] * 3
    assert all(math.isfinite(edge) for edge in edges.values())


# ---- composition with smooth standardisation


def test_root_sas_with_sub_groups_matches_the_worked_example() -> None:
    before = describe_rewards([0, 0, 0, 0, 1, 0])
    smooth, after = smooth_advantages(REWARDS, before)
    assert smooth == pytest.approx([1.573132, -0.642229, 1.573132] + [-0.642229] * 3, abs=6e-7)
    assert after.std == pytest.approx(0.433013, abs=6e-7)
    got = dcpo_tree_advantages(IRREGULAR, REWARDS, smooth, after.std, distinct_groups=False)
    expected = [1.165878, -1.112177, 1.171466, -0.160557, -0.160557, -0.642229]
    assert got == pytest.approx(expected, abs=6e-7)
    distinct = dcpo_tree_advantages(IRREGULAR, REWARDS, smooth, after.std)
    assert distinct[3] == pytest.approx(-0.642229 / 2, abs=6e-7)
    all_correct, later = smooth_advantages([1.0] * 6, after)
    assert (later.mean, later.std) == pytest.approx((0.5, 0.5), abs=1e-12)
    undivided = dcpo_tree_advantages(IRREGULAR, [1.0] * 6, all_correct, later.std)
    assert undivided == pytest.approx([1 / 3] * 6, abs=1e-12)


def test_a_prompt_that_never_varied_gives_zero_in_the_composition() -> None:
    smooth, after = smooth_advantages([0.0] * 6, RewardStats())
    assert dcpo_tree_advantages(IRREGULAR, [0.0] * 6, smooth, after.std) == [0.0] * 6


def test_without_a_total_spread_only_the_root_term_counts() -> None:
    got = dcpo_tree_advantages(IRREGULAR, REWARDS, [0.3] * 6, 0.0)
    assert got == pytest.approx([0.1, 0.1, 0.15, 0.15, 0.15, 0.3], abs=1e-12)


def test_unscorable_leaves_get_zero_in_the_composition() -> None:
    rewards = [1.0, NAN, 0.0, NAN, 0.0, 0.0]
    smooth, after = smooth_advantages(rewards, RewardStats())
    got = dcpo_tree_advantages(IRREGULAR, rewards, smooth, after.std)
    assert (got[1], got[3]) == (0.0, 0.0)
    assert all(math.isfinite(a) and a != 0 for k, a in enumerate(got) if k not in (1, 3))


# ---- degenerate trees


def test_a_single_leaf_keeps_its_reward() -> None:
    assert tree_advantages(_paths("a/b/c"), [-1.0]) == [-1.0]
    assert tree_advantages(_paths("a"), [NAN]) == [0.0]
    assert inverse_fork_weights(_paths("a/b/c")) == [1.0]


@pytest.mark.parametrize("distinct", [True, False])
def test_an_unscorable_leaf_counts_as_absent(distinct: bool) -> None:
    holes = tree_advantages(IRREGULAR, [1.0, NAN, 1.0, 0.0, 0.0, 0.0], distinct_groups=distinct)
    kept = [path for k, path in enumerate(IRREGULAR) if k != 1]
    clean = tree_advantages(kept, [1.0, 1.0, 0.0, 0.0, 0.0], distinct_groups=distinct)
    assert holes[1] == 0.0
    assert [holes[k] for k in (0, 2, 3, 4, 5)] == clean


def test_a_lone_scorable_leaf_among_unscorable_ones_gets_zero() -> None:
    assert tree_advantages(_paths("a/x", "a/y", "b"), [1.0, NAN, NAN]) == [0.0, 0.0, 0.0]
    assert tree_advantages(_paths("a", "b"), [NAN, NAN]) == [0.0, 0.0]


@pytest.mark.parametrize("reward", [0.1, 0.7, -1.0])
def test_a_uniform_tree_gives_exactly_zero(reward: float) -> None:
    assert tree_advantages(IRREGULAR, [reward] * 6) == [0.0] * 6


def test_a_flat_tree_is_reward_minus_mean() -> None:
    got = tree_advantages(_paths("a", "b", "c", "d"), [1.0, 0.0, 0.0, 0.0])
    assert got == [0.75, -0.25, -0.25, -0.25]


def test_a_chain_above_the_fork_counts_once_only_when_groups_are_distinct() -> None:
    paths, rewards = _paths("a/b/x", "a/b/y"), [1.0, 0.0]
    assert tree_advantages(paths, rewards) == [0.5, -0.5]
    sized = tree_advantages(
        _paths("a/b/x", "a/b/y", "c"), [1.0, 0.0, 0.0], weighting="subgroup_size"
    )
    assert sized[0] == pytest.approx((3 * 2 / 3 + 2 * 0.5) / 5, abs=1e-12)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "without leaves"),
        (_paths("a", "a"), "distinct"),
        (_paths("a", "a/b"), "distinct"),
        ([("p", "a"), ("q", "b")], "one tree"),
    ],
)
def test_paths_that_are_not_one_tree_are_rejected(
    paths: list[tuple[str, ...]], message: str
) -> None:
    rewards = [0.0] * len(paths)
    with pytest.raises(ValueError, match=message):
        tree_advantages(paths, rewards)
    with pytest.raises(ValueError, match=message):
        inverse_fork_weights(paths)


def test_a_missing_reward_is_rejected() -> None:
    with pytest.raises(ValueError, match="zip"):
        tree_advantages(IRREGULAR, REWARDS[:-1])
