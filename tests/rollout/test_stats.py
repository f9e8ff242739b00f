"""Statistics of trees: worked numbers, and sums over ranks."""

from __future__ import annotations

import pytest

from rollout.growth import PromptTask, RolloutConfig, grow_trees
from rollout.stats import GrowthStats, growth_stats
from rollout.tree import FinishReason, RolloutTree, TokenDraws
from tests.fakes import FakeEngine, ending_script


@pytest.fixture
def small() -> RolloutTree:
    """P(6) forks into A(4) and B(4, eos), A into A1(4, finished) and A2(2, max_tokens)."""
    tree = RolloutTree(prompt_id="p", example={}, num_fallback_paths=1, leaves_before_fallback=2)
    tree.add_segment(parent=None, token_ids=range(6), policy_version=0)
    add(tree, 0, 4, None)
    add(tree, 0, 4, FinishReason.EOS)
    add(tree, 1, 4, FinishReason.FINISHED)
    add(tree, 1, 2, FinishReason.MAX_TOKENS)
    return tree


def add(tree: RolloutTree, parent: int, num: int, finish: FinishReason | None) -> None:
    zeros = (0.0,) * num
    draws = TokenDraws(logprobs=zeros, behaviour_logprobs=zeros, entropies=zeros)
    tree.add_segment(
        parent=parent, token_ids=range(num), policy_version=0, draws=draws, finish=finish
    )


def test_metrics_of_a_small_tree(small: RolloutTree) -> None:
    metrics = growth_stats([small]).metrics()
    expected = {
        "rollout/prompts": 1,
        "rollout/leaves": 3,
        "rollout/requests": 4,
        "rollout/sampled_tokens": 14,
        "rollout/distinct_tokens": 20,
        "rollout/trajectory_tokens": 10 + 14 + 12,
        "rollout/sharing_ratio": 1 - 20 / 36,
        "rollout/requests_per_leaf": 4 / 3,
        "rollout/leaves_per_prompt": 3,
        "rollout/response_tokens_mean": (4 + 8 + 6) / 3,
        "rollout/response_tokens_min": 4,
        "rollout/response_tokens_max": 8,
        "rollout/response_tokens_inverse_fork_mean": 4 / 2 + 8 / 4 + 6 / 4,
        "rollout/depth_mean": 5 / 3,
        "rollout/depth_max": 2,
        "rollout/fallback_prompt_frac": 1,
        "rollout/fallback_paths_per_prompt": 1,
        "rollout/leaves_before_fallback": 2,
        "rollout/groups_per_leaf": (1 + 2 + 2) / 3,
        "rollout/finish_finished_frac": 1 / 3,
        "rollout/finish_eos_frac": 1 / 3,
        "rollout/finish_max_tokens_frac": 1 / 3,
        "rollout/finish_max_segments_frac": 0,
        "rollout/finish_repetition_frac": 0,
        "rollout/finish_pruned_frac": 0,
    }
    assert metrics == pytest.approx(expected, abs=1e-12)


def test_statistics_of_two_ranks_add_up() -> None:
    tasks = [PromptTask(prompt_id=f"q{i}", token_ids=[1, 2], example={}) for i in range(10)]
    engine = FakeEngine(script=ending_script(0, 0.3))
    config = RolloutConfig(width=6, max_segments=4, segment_length=3)
    trees = grow_trees(engine, tasks, config, decode=str, eos_token_ids={0}, seed=0)
    whole = growth_stats(trees)
    parts = growth_stats(trees[:3]) + growth_stats(trees[3:])
    assert parts.metrics() == pytest.approx(whole.metrics(), abs=1e-12)
    assert whole.num_requests == len(engine.log)
    assert whole.trajectory_tokens == sum(tree.num_trajectory_tokens for tree in trees)


def test_no_trees_give_zeros() -> None:
    assert set(GrowthStats().metrics().values()) == {0.0}


def test_flat_rollouts_have_one_group_and_no_fallback() -> None:
    config = RolloutConfig(width=4, max_segments=3, segment_length=2, branching=1)
    task = PromptTask(prompt_id="q", token_ids=[1], example={})
    trees = grow_trees(FakeEngine(), [task], config, decode=str, eos_token_ids={0}, seed=0)
    metrics = growth_stats(trees).metrics()
    assert metrics["rollout/groups_per_leaf"] == 1
    assert metrics["rollout/leaves_before_fallback"] == 4
