"""Chooses the formulas of advantages.py and tree_advantages.py that a `PolicyConfig` names.

Every rank passes the leaves of ALL ranks, in the order of the gathered rows, so that every rank gets
the same numbers and makes the same update of its own prompt store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor

from trainers.advantages import (
    advantage_sums,
    normalise_advantages,
    weighted_group_advantages,
)
from trainers.leaf_groups import LeafGroup
from trainers.policy_config import PolicyConfig
from trainers.prompt_store import PromptStore
from trainers.tree_advantages import dcpo_tree_advantages, tree_advantages


def leaf_advantages(
    args: PolicyConfig, groups: Sequence[LeafGroup], store: PromptStore
) -> tuple[list[float], Mapping[str, float]]:
    """Advantage of every leaf before batch normalisation, and metrics of the prompt store.

    Args:
        args: `advantage`, `leaf_weighting`, `tree_weighting`, `distinct_groups`, `scale_rewards`.
        groups: All trees of the rollout batch, with rewards.
        store: Visited once by `sas` and `dcpo_tree`, untouched by the others.
    """
    match args.advantage:
        case "group":
            return _chained(_group(args, group) for group in groups), {}
        case "tree":
            return _chained(_tree(args, group) for group in groups), {}
        case "sas" | "dcpo_tree":
            return _smooth(args, groups, store)
    raise AssertionError(f"unknown advantage {args.advantage!r}")


def normalised(args: PolicyConfig, advantages_B: Tensor, groups: Sequence[LeafGroup]) -> Tensor:
    """The advantages after `args.batch_norm`, float32 [B]; each row counts with its loss tokens.

    Args:
        args: `batch_norm`.
        advantages_B: [B], rows of all ranks.
        groups: As in `leaf_advantages`.
    """
    num_tokens_B = torch.tensor(
        list(chain.from_iterable(group.num_tokens for group in groups)), device=advantages_B.device
    )
    return normalise_advantages(
        advantages_B, advantage_sums(advantages_B, num_tokens_B), args.batch_norm
    )


def loss_weights(groups: Sequence[LeafGroup]) -> list[float]:
    """Inverse-fork weight of every leaf times the leaves of its tree: the mean per tree is 1."""
    return _chained([w * len(group.paths) for w in group.fork_weights] for group in groups)


def _group(args: PolicyConfig, group: LeafGroup) -> list[float]:
    return weighted_group_advantages(
        group.rewards, _baseline_weights(args, group), is_scaled=args.scale_rewards != "none"
    )


def _tree(args: PolicyConfig, group: LeafGroup) -> list[float]:
    return tree_advantages(
        group.paths,
        group.rewards,
        weighting="subgroup_size" if args.tree_weighting == "subgroup_size" else "average",
        distinct_groups=args.distinct_groups,
        leaf_weights=_baseline_weights(args, group),
    )


def _smooth(
    args: PolicyConfig, groups: Sequence[LeafGroup], store: PromptStore
) -> tuple[list[float], Mapping[str, float]]:
    prompt_ids = [group.prompt_id for group in groups for _ in group.paths]
    weights = None
    if args.leaf_weighting == "inverse_fork":
        weights = _chained(group.fork_weights for group in groups)
    rewards = _chained(group.rewards for group in groups)
    smooth, visits = store.visit(prompt_ids, rewards, weights=weights)
    if args.advantage == "sas":
        return smooth, visits.metrics()
    advantages: list[float] = []
    for group in groups:
        rows = slice(len(advantages), len(advantages) + len(group.paths))
        advantages += dcpo_tree_advantages(
            group.paths,
            group.rewards,
            smooth[rows],
            visits.sigma_total[rows.start],  # the same for all leaves of a prompt
            distinct_groups=args.distinct_groups,
            leaf_weights=_baseline_weights(args, group),
        )
    return advantages, visits.metrics()


def _baseline_weights(args: PolicyConfig, group: LeafGroup) -> list[float] | None:
    return group.fork_weights if args.leaf_weighting == "inverse_fork" else None


def _chained(parts: Iterable[Sequence[float]]) -> list[float]:
    return list(chain.from_iterable(parts))
