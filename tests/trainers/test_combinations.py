"""Combinations that cannot work are refused with the reason, here, in the configuration and in recipes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from rollout.config import RolloutConfig
from tests.policy_settings import make_config
from tests.tiny_policy import tiny_trainer
from trainers import build
from trainers.combinations import check_algorithm, check_rollout
from trainers.recipe import RecipeError, read_recipe

ROOT = Path(__file__).resolve().parents[2]
FLAT = RolloutConfig(width=4, segment_length=4, max_segments=3, branching=1)
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"adv_norm": "batch_whiten"}, "subtracts the mean that smooth standardisation creates"),
    ({"advantage": "dcpo_tree", "adv_norm": "batch_whiten"}, "trainer.advantage=dcpo_tree"),
    ({"dynamic_sampling_rounds": 1}, "the store would see prompts of mixed outcome only"),
    ({"advantage": "dcpo_tree", "dynamic_sampling_rounds": 1}, "mixed outcome only"),
    ({"scale_rewards": "none"}, "no effect with trainer.advantage=sas"),
    ({"advantage": "tree", "scale_rewards": "batch"}, "no effect with trainer.advantage=tree"),
    (
        {"advantage": "group", "scale_rewards": "batch", "leaf_weighting": "inverse_fork"},
        "counts every leaf once",
    ),
    ({"tree_weighting": "subgroup_size"}, "tree_weighting=subgroup_size has no effect"),
    ({"advantage": "group", "distinct_groups": False}, "distinct_groups=false has no effect"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_what_cannot_work_is_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_algorithm(given)
    with pytest.raises(ValueError, match=message):
        make_config(tmp_path, **given)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"advantage": "tree", "adv_norm": "batch_whiten", "dynamic_sampling_rounds": 3},
        {"advantage": "tree", "distinct_groups": False, "tree_weighting": "subgroup_size"},
        {"advantage": "dcpo_tree", "adv_norm": "batch_scale", "leaf_weighting": "inverse_fork"},
        {"advantage": "group", "scale_rewards": "none", "dynamic_sampling_rounds": 1},
    ],
)
def test_what_works_is_accepted(tmp_path: Path, given: dict[str, Any]) -> None:
    check_algorithm(given)
    make_config(tmp_path, **given)


@pytest.mark.parametrize("advantage", ["tree", "dcpo_tree"])
def test_tree_advantages_need_trees(tmp_path: Path, advantage: str) -> None:
    with pytest.raises(ValueError, match=r"share no segment \(flat sampling\), so there are no"):
        check_rollout({"advantage": advantage}, FLAT)
    with pytest.raises(ValueError, match="flat sampling"):
        tiny_trainer(tmp_path, rollout=FLAT, advantage=advantage)


def test_leaf_weights_without_trees_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_rollout({"advantage": "group", "loss_leaf_weighting": "inverse_fork"}, FLAT)
    assert "trainer.loss_leaf_weighting=inverse_fork has no effect" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.adv_norm=batch_whiten"], "dcpo.yaml: trainer.adv_norm=batch_whiten cannot"),
        (
            ["trainer.advantage=tree", "rollout.initial_divergence=8"],
            "dcpo.yaml: trainer.advantage=tree: rollout.width=8 leaves share no segment",
        ),
        (["rollout.branch_policy=evne"], "rollout.branch_policy: branch_policy='evne' is unknown"),
        (
            ["rollout.branch_policy.type=logprob", "rollout.branch_policy.settings.temprature=1.0"],
            "rollout.branch_policy.settings.temprature: unknown key; did you mean temperature",
        ),
        (
            ["rollout.branch_policy.type=entropy", "rollout.branch_policy.settings.tail_tokens=a"],
            'rollout.branch_policy.settings.tail_tokens="a", expected an integer',
        ),
    ],
)
def test_recipes_are_judged_before_anything_is_loaded(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build.check(read_recipe(ROOT / "recipes" / "dcpo.yaml", overrides))


def test_a_policy_with_settings_decodes() -> None:
    overrides = [
        "rollout.branch_policy.type=entropy",
        "rollout.branch_policy.settings.measure=tail",
    ]
    recipe = build.decode_recipe(read_recipe(ROOT / "recipes" / "dcpo.yaml", overrides))
    assert recipe.rollout.branching_entry.settings == {"measure": "tail"}
