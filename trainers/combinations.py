"""Settings that exclude each other or have no effect, each with its reason.

Works on the plain keys of the trainer section, so that a recipe is judged before anything is loaded.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from rollout.config import RolloutConfig

logger = logging.getLogger(__name__)

SMOOTH = ("sas", "dcpo_tree")
"""Advantages that remember every prompt's rewards."""
TREES = ("tree", "dcpo_tree")
"""Advantages that compare a leaf with the leaves below its ancestors."""


def check_algorithm(given: Mapping[str, Any]) -> None:  # values of the trainer section
    """Refuse trainer settings that cannot work together; missing keys have their defaults.

    Raises:
        ValueError: Names the settings, the reason and what to use.
    """
    advantage = given.get("advantage", "sas")
    if advantage in SMOOTH and given.get("adv_norm") == "batch_whiten":
        raise ValueError(
            f"trainer.adv_norm=batch_whiten cannot work with trainer.advantage={advantage}: it "
            "subtracts the mean that smooth standardisation creates on purpose; use batch_scale or none"
        )
    if advantage in SMOOTH and given.get("dynamic_sampling_rounds", 0):
        raise ValueError(
            f"trainer.dynamic_sampling_rounds cannot work with trainer.advantage={advantage}: the "
            "store would see prompts of mixed outcome only, and uniform groups already carry a "
            "signal; set it to 0"
        )
    _check_effects(given, advantage)


def check_rollout(given: Mapping[str, Any], rollout: RolloutConfig) -> None:
    """Refuse trainer settings that need trees when the rollouts are flat; warn where nothing acts.

    Raises:
        ValueError: As `check_algorithm`.
    """
    if not rollout.is_flat:
        return
    flat = f"rollout.width={rollout.width} leaves share no segment (flat sampling)"
    if given.get("advantage") in TREES:
        raise ValueError(
            f"trainer.advantage={given['advantage']}: {flat}, so there are no sub-groups to compare; "
            "lower rollout.initial_divergence, or use trainer.advantage=group or sas"
        )
    for name in ("leaf_weighting", "loss_leaf_weighting"):
        if given.get(name) == "inverse_fork":
            logger.warning("trainer.%s=inverse_fork has no effect: %s", name, flat)


def _check_effects(given: Mapping[str, Any], advantage: str) -> None:
    scale = given.get("scale_rewards", "group")
    if advantage != "group" and scale not in ("group", True):
        raise ValueError(
            f"trainer.scale_rewards={scale!r} has no effect with trainer.advantage={advantage}; "
            "leave it out or use trainer.advantage=group"
        )
    if scale == "batch" and given.get("leaf_weighting") == "inverse_fork":
        raise ValueError(
            "trainer.scale_rewards=batch counts every leaf once and ignores "
            "trainer.leaf_weighting=inverse_fork; use scale_rewards group or none"
        )
    if advantage != "tree" and given.get("tree_weighting", "average") != "average":
        raise ValueError(
            f"trainer.tree_weighting={given['tree_weighting']} has no effect with "
            f"trainer.advantage={advantage}; leave it out or use trainer.advantage=tree"
        )
    if advantage not in TREES and not given.get("distinct_groups", True):
        raise ValueError(
            f"trainer.distinct_groups=false has no effect with trainer.advantage={advantage}; "
            "leave it out or use trainer.advantage=tree"
        )
