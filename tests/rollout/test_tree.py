"""The rollout tree: worked numbers of small trees, round trips, weights and groups."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from rollout.tree import FinishReason, RolloutTree, TokenDraws


def draws(num: int, value: float = -0.5) -> TokenDraws:
    return TokenDraws(
        logprobs=(value,) * num, behaviour_logprobs=(value / 2,) * num, entropies=(1.0,) * num
    )


def build_tree(prompt_length: int, edges: list[tuple[int | None, int, bool]]) -> RolloutTree:
    """Segments from (parent, length, is leaf), below a prompt."""
    tree = RolloutTree(prompt_id="p", example={"answer": "4"})
    tree.add_segment(parent=None, token_ids=range(prompt_length), policy_version=3)
    for number, (parent, length, is_leaf) in enumerate(edges, start=1):
        tree.add_segment(
            parent=parent,
            token_ids=[100 * number + i for i in range(length)],
            policy_version=3,
            draws=draws(length, -float(number)),
            finish=FinishReason.EOS if is_leaf else None,
        )
    return tree


@pytest.fixture
def small() -> RolloutTree:
    """P(6) forks into A and B, A into A1 and A2; four tokens each; leaves A1, A2, B."""
    return build_tree(6, [(0, 4, False), (0, 4, True), (1, 4, True), (1, 4, True)])


@pytest.fixture
def irregular() -> RolloutTree:
    """a/a1/x1, a/a1/x2, a/a2, b/b1/y1/z1, b/b1/y1/z2, c."""
    edges: list[tuple[int | None, int, bool]] = [
        (0, 1, False),  # 1 a
        (0, 1, False),  # 2 b
        (1, 1, False),  # 3 a1
        (3, 1, True),  # 4 x1
        (3, 1, True),  # 5 x2
        (1, 1, True),  # 6 a2
        (2, 1, False),  # 7 b1
        (7, 1, False),  # 8 y1
        (8, 1, True),  # 9 z1
        (8, 1, True),  # 10 z2
        (0, 1, True),  # 11 c
    ]
    return build_tree(1, edges)


def test_token_counts_of_the_small_tree(small: RolloutTree) -> None:
    assert small.num_distinct_tokens == 22
    assert small.num_trajectory_tokens == 38
    assert small.num_sampled_tokens == 16
    assert small.sharing_ratio == pytest.approx(0.421053, abs=5e-7)


def test_trajectory_concatenates_the_path_and_bounds_tile_it(small: RolloutTree) -> None:
    row = small.trajectory(3)
    assert row.path == (0, 1, 3)
    assert row.bounds == ((0, 6), (6, 10), (10, 14))
    assert row.loss_mask == (False,) * 6 + (True,) * 8
    assert row.token_ids == (*range(6), 100, 101, 102, 103, 300, 301, 302, 303)
    assert row.logprobs == (0.0,) * 6 + (-1.0,) * 4 + (-3.0,) * 4
    assert row.behaviour_logprobs == (0.0,) * 6 + (-0.5,) * 4 + (-1.5,) * 4
    assert row.entropies == (0.0,) * 6 + (1.0,) * 8
    assert row.finish is FinishReason.EOS


def test_trajectories_come_in_the_order_of_completion(small: RolloutTree) -> None:
    assert small.leaves == [2, 3, 4]
    assert [row.leaf for row in small.trajectories()] == [2, 3, 4]
    assert sum(sum(row.loss_mask) for row in small.trajectories()) == 20


def test_trajectory_of_an_inner_segment_is_refused(small: RolloutTree) -> None:
    with pytest.raises(ValueError, match=r"segment 1 is not a leaf; the leaves are \[2, 3, 4\]"):
        small.trajectory(1)


def test_prefix_is_what_the_model_saw(small: RolloutTree) -> None:
    assert small.prefix_ids(0) == tuple(range(6))
    assert small.prefix_ids(2) == (*range(6), 200, 201, 202, 203)


def test_a_leaf_gets_no_children(small: RolloutTree) -> None:
    with pytest.raises(AssertionError, match="segment 2 is a leaf"):
        small.add_segment(parent=2, token_ids=[1], policy_version=0)


def test_lists_of_a_segment_must_have_equal_length(small: RolloutTree) -> None:
    with pytest.raises(AssertionError, match="one log-prob"):
        small.add_segment(parent=1, token_ids=[1, 2], policy_version=0, draws=draws(3))
    uneven = TokenDraws(logprobs=(0.0,), behaviour_logprobs=(0.0,), entropies=())
    with pytest.raises(AssertionError, match="one log-prob"):
        small.add_segment(parent=1, token_ids=[1], policy_version=0, draws=uneven)


def test_only_the_first_segment_is_a_prompt(small: RolloutTree) -> None:
    with pytest.raises(AssertionError, match="the prompt"):
        small.add_segment(parent=None, token_ids=[1], policy_version=0)


def test_leaf_weights_of_the_irregular_tree(irregular: RolloutTree) -> None:
    expected = [Fraction(1, 12), Fraction(1, 12), *[Fraction(1, 6)] * 3, Fraction(1, 3)]
    assert irregular.leaf_weights() == pytest.approx([float(w) for w in expected], abs=1e-15)
    rewards = [1, 0, 1, 0, 0, 0]
    weighted = sum(w * r for w, r in zip(irregular.leaf_weights(), rewards, strict=True))
    assert weighted == pytest.approx(0.25)


def test_weighted_sum_is_the_bottom_up_mean_of_child_means(irregular: RolloutTree) -> None:
    rewards = dict(zip(irregular.leaves, [0.3, -1.0, 2.0, 0.7, 0.1, 5.0], strict=True))

    def value(segment_id: int) -> float:
        below = [s.id for s in irregular.segments if s.parent == segment_id]
        return rewards[segment_id] if not below else sum(map(value, below)) / len(below)

    weighted = sum(
        weight * rewards[leaf]
        for weight, leaf in zip(irregular.leaf_weights(), irregular.leaves, strict=True)
    )
    assert weighted == pytest.approx(value(0), abs=1e-12)


def test_leaf_groups_hold_the_positions_below_each_segment(irregular: RolloutTree) -> None:
    groups = irregular.leaf_groups()
    assert groups[0] == (0, 1, 2, 3, 4, 5)
    assert groups[1] == (0, 1, 2)
    assert groups[3] == (0, 1)
    assert groups[2] == groups[7] == groups[8] == (3, 4)
    assert groups[11] == (5,)
    assert set(groups) == set(range(12))


def test_tree_without_leaves_has_no_sharing_weights_or_groups() -> None:
    tree = build_tree(2, [])
    assert (tree.sharing_ratio, tree.leaf_weights(), tree.leaf_groups()) == (0.0, (), {})


def test_tree_survives_a_round_trip_through_json(irregular: RolloutTree) -> None:
    irregular.num_fallback_paths = 2
    restored = RolloutTree.from_dict(json.loads(json.dumps(irregular.to_dict())))
    assert restored == irregular
    assert restored.segments[4].finish is FinishReason.EOS
