"""The leaves of rollout trees as advantages and metrics need them: what ranks exchange after a rollout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rollout.tree import RolloutTree
from trainers.tree_advantages import inverse_fork_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafGroup:
    """All leaves of one rollout tree, in the order of its training rows."""

    prompt_id: str
    paths: tuple[tuple[int, ...], ...]
    """Segment ids of each leaf, prompt first (`Trajectory.path`)."""
    num_tokens: tuple[int, ...]
    """Loss tokens of each leaf, at least 1."""
    rewards: tuple[float, ...] = ()
    """Reward of each leaf, NaN where unscorable; empty before they are known."""

    @property
    def fork_weights(self) -> list[float]:
        """Inverse-fork weight of each leaf; they sum to 1."""
        return inverse_fork_weights(self.paths)


def leaf_groups(trees: Sequence[RolloutTree]) -> list[LeafGroup]:
    """One group per tree, in order; rewards are added by `with_rewards`."""
    groups = []
    for tree in trees:
        rows = tree.trajectories()
        groups.append(
            LeafGroup(
                prompt_id=tree.prompt_id,
                paths=tuple(row.path for row in rows),
                num_tokens=tuple(sum(row.loss_mask) for row in rows),
            )
        )
    return groups


def with_rewards(groups: Sequence[LeafGroup], rewards: Sequence[float]) -> list[LeafGroup]:
    """The groups with their rewards; `rewards` lists the leaves of all groups in order.

    Raises:
        ValueError: There is not exactly one reward per leaf.
    """
    num_leaves = sum(len(group.paths) for group in groups)
    if num_leaves != len(rewards):
        raise ValueError(f"{len(rewards)} rewards for {num_leaves} leaves; pass one per leaf")
    found, first = [], 0
    for group in groups:
        last = first + len(group.paths)
        found.append(replace(group, rewards=tuple(rewards[first:last])))
        first = last
    return found
