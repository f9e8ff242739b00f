"""Metrics of trees with rewards, by hand."""

from __future__ import annotations

import math

import pytest

from trainers.leaf_groups import LeafGroup, with_rewards
from trainers.tree_metrics import tree_metrics, uniform_shares

TREE = LeafGroup(  # a/a1/x1, a/a1/x2, a/a2, b/b1/y1/z1, b/b1/y1/z2, c below the prompt 0
    prompt_id="irregular",
    paths=((0, 1, 2, 3), (0, 1, 2, 4), (0, 1, 5), (0, 6, 7, 8, 9), (0, 6, 7, 8, 10), (0, 11)),
    num_tokens=(1200, 1500, 900, 1800, 2048, 400),
    rewards=(1.0, 0.0, 1.0, 0.0, 0.0, 0.0),
)


def test_metrics_of_the_worked_tree() -> None:
    assert tree_metrics([TREE]) == pytest.approx(
        {
            "tree/leaf_reward_mean": 2 / 6,
            "tree/inverse_fork_reward_mean": 0.25,
            "tree/uniform_frac_depth_0": 0.0,
            "tree/uniform_frac_depth_1": 0.5,  # a is mixed, b is not
            "tree/uniform_frac_depth_2": 0.0,  # a/a1; b/b1 repeats b
            "tree/response_tokens_better": (1200 + 900) / 2,
            "tree/response_tokens_worse": (1500 + 1800 + 2048 + 400) / 4,
        }
    )


def test_means_are_over_prompts_and_shares_over_groups() -> None:
    solved = with_rewards([TREE], [1.0] * 6)[0]
    metrics = tree_metrics([TREE, solved])
    assert metrics["tree/leaf_reward_mean"] == pytest.approx((2 / 6 + 1) / 2)
    assert metrics["tree/inverse_fork_reward_mean"] == pytest.approx((0.25 + 1) / 2)
    assert uniform_shares([TREE, solved]) == {0: 0.5, 1: 0.75, 2: 0.5}


def test_unscorable_leaves_are_left_out() -> None:
    nan = math.nan
    partly = with_rewards([TREE], [nan, 0.0, 1.0, 0.0, 0.0, 0.0])
    assert uniform_shares(partly) == {0: 0.0, 1: 0.5}  # one leaf is left under a/a1
    assert tree_metrics(partly)["tree/leaf_reward_mean"] == pytest.approx(0.2)
    assert tree_metrics(with_rewards([TREE], [nan] * 6)) == {}


def test_flat_prompts_have_one_depth() -> None:
    flat = LeafGroup(prompt_id="p", paths=((0, 1), (0, 2)), num_tokens=(3, 4), rewards=(0.0, 0.0))
    assert tree_metrics([flat]) == {
        "tree/leaf_reward_mean": 0.0,
        "tree/inverse_fork_reward_mean": 0.0,
        "tree/uniform_frac_depth_0": 1.0,
    }
