"""Growth under every branch policy: invariants, early ends, the schedule, the choice by configuration."""

from __future__ import annotations

from typing import Any

import pytest

from rollout.config import BranchPolicyEntry, PromptTask, RolloutConfig
from rollout.growth import grow_trees
from rollout.tree import FinishReason, RolloutTree
from tests.fakes import FakeEngine, ending_script

EOS = 0
POLICIES: dict[str, dict[str, Any]] = {
    "even": {},
    "logprob": {"temperature": 0.05},
    "scheduled_logprob": {"favour": "high", "temperature_end": 0.05},
    "entropy": {"temperature": 0.1},
    "value": {"function": "tests.fakes:last_logprob", "prune_below": -0.8, "stop_below": -1.2},
}


def grow(name: str, *, progress: float = 0.0, prompts: int = 20, **shape: Any) -> list[RolloutTree]:
    values = {"width": 12, "max_segments": 6, "segment_length": 3, **shape}
    config = RolloutConfig(
        branch_policy=BranchPolicyEntry(type=name, settings=POLICIES[name]), **values
    )
    tasks = [PromptTask(prompt_id=f"q{i}", token_ids=[1, 2], example={}) for i in range(prompts)]
    engine = FakeEngine(script=ending_script(EOS, 0.05))
    trees = grow_trees(
        engine, tasks, config, decode=str, eos_token_ids={EOS}, seed=0, progress=progress
    )
    assert engine.num_open == 0
    return trees


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_gives_full_trees(name: str) -> None:
    for tree in grow(name):
        assert len(tree.leaves) == 12
        counts = tree.child_counts()
        ended = {segment.id for segment in tree.segments if segment.finish is not None}
        assert ended == set(tree.leaves)
        assert all(counts[i] == 0 for i in ended)
        assert all(num > 0 for i, num in enumerate(counts) if i not in ended)


def test_policies_differ_and_the_schedule_moves() -> None:
    shapes = {name: str([tree.child_counts() for tree in grow(name)]) for name in POLICIES}
    assert shapes.pop("entropy") == shapes["even"]  # the engine reports equal entropies
    assert len(set(shapes.values())) == len(shapes)
    early, late = (grow("scheduled_logprob", progress=share) for share in (0.0, 1.0))
    assert [t.child_counts() for t in early] != [t.child_counts() for t in late]


def test_pruned_paths_become_leaves_and_are_not_used_again() -> None:
    trees = grow("value")
    pruned = [s for tree in trees for s in tree.segments if s.finish is FinishReason.PRUNED]
    assert pruned
    assert all(segment.logprobs[-1] < -1.2 for segment in pruned)
    going_on = [s for tree in trees for s in tree.segments if s.finish is None and s.id]
    assert all(segment.logprobs[-1] >= -1.2 for segment in going_on)


def test_a_value_function_that_gives_everything_up_still_ends() -> None:
    entry = BranchPolicyEntry(
        type="value", settings={"function": "tests.fakes:last_logprob", "stop_below": 9.0}
    )
    config = RolloutConfig(width=7, max_segments=6, segment_length=3, branch_policy=entry)
    task = PromptTask(prompt_id="q", token_ids=[1, 2], example={})
    tree = grow_trees(FakeEngine(), [task], config, decode=str, eos_token_ids={EOS}, seed=0)[0]
    assert {tree.segments[leaf].finish for leaf in tree.leaves} == {FinishReason.PRUNED}
    assert all(tree.segments[leaf].parent == 0 for leaf in tree.leaves)
    assert tree.leaves_before_fallback == 2


def test_a_pruned_tree_survives_a_round_trip() -> None:
    tree = grow("value", prompts=1)[0]
    assert RolloutTree.from_dict(tree.to_dict()) == tree


def test_a_name_and_an_entry_without_settings_are_the_same_policy() -> None:
    by_name = RolloutConfig(branch_policy="entropy")
    by_entry = RolloutConfig(branch_policy=BranchPolicyEntry(type="entropy"))
    assert by_name.branching_entry == by_entry.branching_entry


@pytest.mark.parametrize(
    ("values", "is_flat"),
    [
        ({}, False),
        ({"branching": 1}, True),
        ({"initial_divergence": 16}, True),
        ({"initial_divergence": (2, 16)}, False),
        ({"max_segments": 1}, True),
    ],
)
def test_flat_rollouts_are_recognised(values: dict[str, Any], is_flat: bool) -> None:
    assert RolloutConfig(**values).is_flat is is_flat
