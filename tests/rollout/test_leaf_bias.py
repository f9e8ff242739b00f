"""The leaf average over-represents long responses; inverse-fork weights undo most of it.

Every segment ends the response with probability 0.25; N = 2, w = 16, d = 14. The expected values are
those of an independent simulation of 8000 trees with fallback.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

import pytest

from rollout.growth import PromptTask, RolloutConfig, grow_trees
from rollout.tree import RolloutTree, Trajectory
from tests.fakes import FakeEngine, ending_script

EOS = 0
END_PROB = 0.25
MAX_DEPTH = 14
NUM_TREES = 2000
REFERENCE_TREES = 8000
DEVIATIONS = 4.5


@pytest.fixture(scope="module")
def trees() -> list[RolloutTree]:
    engine = FakeEngine(script=ending_script(EOS, END_PROB))
    tasks = [PromptTask(prompt_id=f"q{i}", token_ids=[1], example={}) for i in range(NUM_TREES)]
    config = RolloutConfig(width=16, max_segments=MAX_DEPTH, segment_length=1)
    return grow_trees(engine, tasks, config, decode=lambda ids: "", eos_token_ids={EOS}, seed=0)


def tolerance(deviation: float) -> float:
    """4.5 standard errors of the difference between our mean and the reference's."""
    return DEVIATIONS * deviation * (1 / NUM_TREES + 1 / REFERENCE_TREES) ** 0.5


def short_is_good(row: Trajectory) -> float:
    """Expected reward of a response: 0.8 if it ended within 3 segments, else 0.2."""
    return 0.8 if len(row.path) - 1 <= 3 and row.token_ids[-1] == EOS else 0.2


def long_is_good(row: Trajectory) -> float:
    return 1.0 - short_is_good(row)


def leaf_mean(tree: RolloutTree, reward: Callable[[Trajectory], float]) -> float:
    return fmean(map(reward, tree.trajectories()))


def weighted_mean(tree: RolloutTree, reward: Callable[[Trajectory], float]) -> float:
    rows = zip(tree.leaf_weights(), tree.trajectories(), strict=True)
    return sum(weight * reward(row) for weight, row in rows)


def true_value() -> float:
    within_three = 1 - (1 - END_PROB) ** 3
    return 0.8 * within_three + 0.2 * (1 - within_three)


def test_true_values_of_the_process() -> None:
    mean_depth = sum((1 - END_PROB) ** k for k in range(MAX_DEPTH))
    assert true_value() == pytest.approx(0.5469, abs=5e-5)
    assert mean_depth == pytest.approx(3.93, abs=5e-3)


def test_leaf_mean_has_the_bias_of_the_reference(trees: list[RolloutTree]) -> None:
    leaf_means = [leaf_mean(tree, short_is_good) for tree in trees]
    assert fmean(leaf_means) == pytest.approx(0.3390, abs=tolerance(0.18))
    swapped = [leaf_mean(tree, long_is_good) for tree in trees]
    assert fmean(swapped) == pytest.approx(0.6612, abs=tolerance(0.18))


def test_inverse_fork_weights_remove_most_of_the_bias(trees: list[RolloutTree]) -> None:
    weighted = fmean(weighted_mean(tree, short_is_good) for tree in trees)
    assert weighted == pytest.approx(0.5352, abs=tolerance(0.23))
    leaf = fmean(leaf_mean(tree, short_is_good) for tree in trees)
    assert abs(weighted - true_value()) < 0.5 * abs(leaf - true_value())


def test_mean_depth_of_the_leaves(trees: list[RolloutTree]) -> None:
    depths = [fmean(len(row.path) - 1 for row in tree.trajectories()) for tree in trees]
    spread = (fmean(d * d for d in depths) - fmean(depths) ** 2) ** 0.5
    assert fmean(depths) == pytest.approx(5.82, abs=tolerance(spread))
