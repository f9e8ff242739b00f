"""Tree advantages and leaf weights inside training: every row gets the numbers of its own leaf."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rollout.config import BranchPolicyEntry, RolloutConfig
from rollout.tree import RolloutTree
from tests.tiny_policy import logged, tiny_model, tiny_trainer
from trainers.policy_trainer import PolicyTrainer, RolloutBatch

TREE = RolloutConfig(width=8, segment_length=3, max_segments=4)


def trained(folder: Path, *, max_steps: int = 1, **settings: Any) -> PolicyTrainer:
    trainer = tiny_trainer(
        folder,
        **{
            "rollout": TREE,
            "model": tiny_model(eos_bias=3.0),
            "aggregation": "token_mean",
            **settings,
        },
        max_steps=max_steps,
    )
    trainer.train()
    return trainer


def batch_of(trainer: PolicyTrainer) -> RolloutBatch:
    assert trainer.newest_rollout is not None
    return trainer.newest_rollout


def rewards_of(batch: RolloutBatch, number: int) -> list[float]:
    return batch.rewards[number * TREE.width : (number + 1) * TREE.width]


def treepo_advantages(tree: RolloutTree, rewards: list[float]) -> list[float]:
    """Equation 5 by comparing path prefixes, distinct groups only."""
    paths = [tree.path_of(leaf) for leaf in tree.leaves]
    found = []
    for path, reward in zip(paths, rewards, strict=True):
        groups = []
        for depth in range(1, len(path)):
            group = [i for i, other in enumerate(paths) if other[:depth] == path[:depth]]
            if (len(group) >= 2 or depth == 1) and group not in groups:
                groups.append(group)
        terms = [reward - sum(rewards[i] for i in group) / len(group) for group in groups]
        found.append(sum(terms) / len(terms))
    return found


def by_completion(trainer: PolicyTrainer, values: list[float]) -> dict[tuple[int, ...], float]:
    """Value of each leaf by its response; responses that occur twice are left out."""
    batch = batch_of(trainer)
    rows = [row for tree in batch.trees for row in tree.trajectories()]
    keys = [row.token_ids for row in rows]
    return {key: value for key, value in zip(keys, values, strict=True) if keys.count(key) == 1}


def buffered(trainer: PolicyTrainer, name: str) -> dict[tuple[int, ...], float]:
    """A column of the shuffled training rows, by the tokens of the row."""
    found = {}
    parts: list[dict[str, torch.Tensor]] = trainer._buffered_inputs or []
    for part in parts:
        for row in range(len(part["prompt_ids"])):
            prompt = part["prompt_ids"][row][part["prompt_mask"][row].bool()]
            response = part["completion_ids"][row][part["completion_mask"][row].bool()]
            found[(*prompt.tolist(), *response.tolist())] = part[name][row].item()
    return found


def test_tree_advantages_reach_their_rows_through_the_shuffle(tmp_path: Path) -> None:
    trainer = trained(tmp_path, advantage="tree", adv_norm="none")
    batch = batch_of(trainer)
    expected: list[float] = []
    for number, tree in enumerate(batch.trees):
        expected += treepo_advantages(tree, rewards_of(batch, number))
    assert batch.advantages == pytest.approx(expected, abs=1e-6)
    assert len(set(batch.advantages)) > 4
    rows = buffered(trainer, "advantages")
    wanted = by_completion(trainer, expected)
    assert len(wanted) > 10
    assert {key: rows[key] for key in wanted} == pytest.approx(wanted, abs=1e-6)


def test_batch_scale_divides_by_the_token_weighted_spread(tmp_path: Path) -> None:
    plain = batch_of(trained(tmp_path / "a", advantage="tree", adv_norm="none"))
    scaled = batch_of(trained(tmp_path / "b", advantage="tree"))
    lengths = [sum(row.loss_mask) for tree in plain.trees for row in tree.trajectories()]
    repeated = torch.tensor(plain.advantages).repeat_interleave(torch.tensor(lengths))
    expected = torch.tensor(plain.advantages) / repeated.std()
    assert scaled.advantages == pytest.approx(expected.tolist(), abs=1e-5)


def test_dcpo_tree_trains_and_remembers(tmp_path: Path) -> None:
    trainer = trained(tmp_path, advantage="dcpo_tree", max_steps=12)
    assert logged(trainer, "reward/mean_visits")[-1] > 1
    assert trainer.prompt_store.get("sum-0").count == 8 * trainer.prompt_store.get("sum-0").visits


def test_store_statistics_are_those_of_the_weighted_leaves(tmp_path: Path) -> None:
    trainer = trained(tmp_path, advantage="sas", leaf_weighting="inverse_fork")
    batch = batch_of(trainer)
    differences = []
    for number, tree in enumerate(batch.trees):
        rewards = rewards_of(batch, number)
        expected = sum(w * r for w, r in zip(tree.leaf_weights(), rewards, strict=True))
        assert trainer.prompt_store.get(tree.prompt_id).mean == pytest.approx(expected)
        differences.append(abs(expected - sum(rewards) / len(rewards)))
    assert max(differences) > 1e-3
    assert logged(trainer, "tree/inverse_fork_reward_mean") != logged(
        trainer, "tree/leaf_reward_mean"
    )


@pytest.mark.parametrize("advantage", ["group", "tree", "dcpo_tree"])
def test_baselines_with_leaf_weights_balance_the_weighted_advantages(
    tmp_path: Path, advantage: str
) -> None:
    settings: dict[str, Any] = {"advantage": advantage, "leaf_weighting": "inverse_fork"}
    if advantage == "tree":
        settings["adv_norm"] = "none"
    batch = batch_of(trained(tmp_path, **settings))
    if advantage == "group":
        for number, tree in enumerate(batch.trees):
            rows = batch.advantages[number * 8 : (number + 1) * 8]
            total = sum(w * a for w, a in zip(tree.leaf_weights(), rows, strict=True))
            assert total == pytest.approx(0.0, abs=1e-5)
    assert batch.advantages != batch_of(trained(tmp_path / "u", advantage=advantage)).advantages


def test_loss_weights_reach_their_rows_and_the_token_count(tmp_path: Path) -> None:
    trainer = trained(tmp_path, advantage="tree", loss_leaf_weighting="inverse_fork")
    batch = batch_of(trainer)
    weights = [8 * weight for tree in batch.trees for weight in tree.leaf_weights()]
    wanted = by_completion(trainer, weights)
    rows = buffered(trainer, "row_weights")
    assert {key: rows[key] for key in wanted} == pytest.approx(wanted, abs=1e-6)
    assert len(set(weights)) > 2
    lengths = [sum(row.loss_mask) for tree in batch.trees for row in tree.trajectories()]
    parts: list[dict[str, torch.Tensor]] = trainer._buffered_inputs or []
    assert parts[0]["num_items_in_batch"].item() == pytest.approx(
        sum(w * n for w, n in zip(weights, lengths, strict=True)), rel=1e-6
    )


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("token_mean", -(2 * 0.5 * 1 + 4 * 1.5 * 2) / 7), ("sequence_mean", -(0.5 * 1 + 1.5 * 2) / 2)],
)
def test_the_loss_is_the_weighted_mean(tmp_path: Path, aggregation: str, expected: float) -> None:
    """Rows of 2 and 4 tokens with weights 0.5, 1.5 and advantages 1, 2 at ratio 1."""
    trainer = tiny_trainer(tmp_path, aggregation=aggregation, steps_per_generation=4)
    trainer.current_gradient_accumulation_steps = 4
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    ids = torch.full((2, 4), 3)
    inputs = {
        "prompt_ids": ids[:, :1],
        "prompt_mask": torch.ones(2, 1, dtype=torch.long),
        "completion_ids": ids,
        "completion_mask": mask,
        "advantages": torch.tensor([1.0, 2.0]),
        "row_weights": torch.tensor([0.5, 1.5]),
        "num_items_in_batch": torch.tensor(0.5 * 2 + 1.5 * 4),
    }
    loss = trainer._compute_loss(trainer.model, inputs)
    scale = 1 if aggregation == "token_mean" else 1 / 4  # three empty micro-batches count as rows
    assert loss.item() == pytest.approx(expected * scale, abs=1e-6)


def test_the_schedule_sees_the_progress_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    from trainers import policy_trainer

    grow = policy_trainer.grow_trees

    def spy(*args: Any, progress: float, **options: Any) -> Any:
        seen.append(progress)
        return grow(*args, progress=progress, **options)

    monkeypatch.setattr(policy_trainer, "grow_trees", spy)
    entry = BranchPolicyEntry(type="scheduled_logprob")
    rollout = RolloutConfig(width=8, segment_length=3, max_segments=4, branch_policy=entry)
    trained(tmp_path, rollout=rollout, max_steps=8)
    assert seen == [0.0, 0.25, 0.5, 0.75]
