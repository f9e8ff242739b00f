"""From settings and leaves to advantages: the worked trees of the reference through the chooser."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rollout.tree import FinishReason, RolloutTree, TokenDraws
from tests.policy_settings import make_config
from trainers.advantages import group_advantages, weighted_group_advantages
from trainers.leaf_groups import LeafGroup, leaf_groups, with_rewards
from trainers.policy_advantages import leaf_advantages, loss_weights, normalised
from trainers.prompt_store import PromptStore

NAN = math.nan
EXAMPLE = LeafGroup(  # a/a1/x1, a/a1/x2, a/a2, b/b1/y1/z1, b/b1/y1/z2, c below the prompt 0
    prompt_id="irregular",
    paths=(
        (0, 1, 2, 3),
        (0, 1, 2, 4),
        (0, 1, 5),
        (0, 6, 7, 8, 9),
        (0, 6, 7, 8, 10),
        (0, 11),
    ),
    num_tokens=(1200, 1500, 900, 1800, 2048, 400),
    rewards=(1.0, 0.0, 1.0, 0.0, 0.0, 0.0),
)


def values(tmp_path: Path, groups: list[LeafGroup], **settings: Any) -> list[float]:
    """Advantages after batch normalisation."""
    args = make_config(tmp_path, **settings)
    store = PromptStore()
    found, _ = leaf_advantages(args, groups, store)
    return normalised(args, torch.tensor(found, dtype=torch.float64), groups).tolist()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"adv_norm": "none", "distinct_groups": False},
            (0.5, -0.5, 0.5, -0.083333, -0.083333, -0.333333),
        ),
        ({"adv_norm": "none"}, (0.5, -0.5, 0.5, -0.166667, -0.166667, -0.333333)),
        (
            {"adv_norm": "none", "distinct_groups": False, "tree_weighting": "subgroup_size"},
            (0.545455, -0.454545, 0.555556, -0.166667, -0.166667, -0.333333),
        ),
        (
            {"adv_norm": "batch_whiten", "distinct_groups": False},
            (1.479346, -1.367616, 1.479346, -0.181381, -0.181381, -0.893122),
        ),
        (
            {"distinct_groups": False},  # batch_scale is the default
            (1.423481, -1.423481, 1.423481, -0.237247, -0.237247, -0.948987),
        ),
        (
            {
                "adv_norm": "batch_whiten",
                "distinct_groups": False,
                "tree_weighting": "subgroup_size",
            },
            (1.570757, -1.119227, 1.597929, -0.344838, -0.344838, -0.793168),
        ),
        (
            {"adv_norm": "none", "distinct_groups": False, "leaf_weighting": "inverse_fork"},
            (0.5, -0.5, 0.5, -0.0625, -0.0625, -0.25),
        ),
    ],
)
def test_tree_advantages_of_the_worked_example(
    tmp_path: Path, settings: dict[str, Any], expected: tuple[float, ...]
) -> None:
    assert values(tmp_path, [EXAMPLE], advantage="tree", **settings) == pytest.approx(
        expected, abs=1e-6
    )


def test_dcpo_tree_of_the_worked_example(tmp_path: Path) -> None:
    args = make_config(tmp_path, advantage="dcpo_tree", distinct_groups=False)
    store = PromptStore()
    store.visit(["irregular"] * 6, [0.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    found, metrics = leaf_advantages(args, [EXAMPLE], store)
    assert found == pytest.approx(
        (1.165878, -1.112177, 1.171466, -0.160557, -0.160557, -0.642229), abs=1e-6
    )
    assert metrics["reward/mean_visits"] == 2
    assert store.get("irregular").mean == pytest.approx(0.25)


def test_dcpo_tree_keeps_the_signal_of_a_uniform_tree_undivided(tmp_path: Path) -> None:
    args = make_config(tmp_path, advantage="dcpo_tree")
    store = PromptStore()
    store.visit(["irregular"] * 6, [0.0] * 6)
    solved = with_rewards([EXAMPLE], [1.0] * 6)
    found, _ = leaf_advantages(args, solved, store)
    assert found == pytest.approx([0.5] * 6)  # mu 0.5, sigma 0.5: A_total 1, halved at visit 2


def test_two_trees_of_one_prompt_are_one_visit_with_their_own_sub_groups(tmp_path: Path) -> None:
    args = make_config(tmp_path, advantage="dcpo_tree")
    other = with_rewards([EXAMPLE], [0.0, 1.0, 0.0, 1.0, 0.0, 1.0])[0]
    store = PromptStore()
    both, _ = leaf_advantages(args, [EXAMPLE, other], store)
    swapped, _ = leaf_advantages(args, [other, EXAMPLE], PromptStore())
    assert store.get("irregular").visits == 1
    assert both == pytest.approx(swapped[6:] + swapped[:6], abs=1e-12)


def test_every_prompt_is_scaled_by_its_own_spread(tmp_path: Path) -> None:
    args = make_config(tmp_path, advantage="dcpo_tree")
    other = replace(with_rewards([EXAMPLE], [5.0, 0.0, 9.0, 1.0, 2.0, 0.0])[0], prompt_id="other")
    both, _ = leaf_advantages(args, [EXAMPLE, other], PromptStore())
    alone, _ = leaf_advantages(args, [other], PromptStore())
    assert both[6:] == alone


@pytest.mark.parametrize("advantage", ["sas", "dcpo_tree"])
def test_store_statistics_use_the_leaf_weights(tmp_path: Path, advantage: str) -> None:
    store = PromptStore()
    args = make_config(tmp_path, advantage=advantage, leaf_weighting="inverse_fork")
    leaf_advantages(args, [EXAMPLE], store)
    assert store.get("irregular").mean == pytest.approx(0.25)  # the leaf mean is 1/3
    assert store.get("irregular").std == pytest.approx(math.sqrt(0.25 * 0.75))


def test_sas_at_the_first_visit_is_the_population_z_score(tmp_path: Path) -> None:
    expected = group_advantages(torch.tensor([EXAMPLE.rewards]))[0].tolist()
    assert values(tmp_path, [EXAMPLE], advantage="sas") == pytest.approx(expected, abs=1e-6)


def test_group_advantages_with_leaf_weights(tmp_path: Path) -> None:
    found = values(tmp_path, [EXAMPLE], advantage="group", leaf_weighting="inverse_fork")
    std = math.sqrt(0.25 * 0.75 * 6 / 5)
    expected = [(reward - 0.25) / (std + 1e-4) for reward in EXAMPLE.rewards]
    assert found == pytest.approx(expected, abs=1e-6)
    plain = values(
        tmp_path,
        [EXAMPLE],
        advantage="group",
        leaf_weighting="inverse_fork",
        scale_rewards="none",
    )
    assert plain == pytest.approx([reward - 0.25 for reward in EXAMPLE.rewards], abs=1e-6)


def test_equal_weights_give_trls_group_advantages() -> None:
    rewards = [1.0, 0.0, NAN, 3.0]
    expected = group_advantages(torch.tensor([rewards]), scale="sample", epsilon=1e-4)[0].tolist()
    assert weighted_group_advantages(rewards, [2.0] * 4) == pytest.approx(expected, abs=1e-6)
    assert weighted_group_advantages([0.1] * 3, None) == [0.0] * 3


def test_unscorable_leaves_get_nothing(tmp_path: Path) -> None:
    broken = with_rewards([EXAMPLE], [NAN, 0.0, 1.0, 0.0, 0.0, 0.0])
    for advantage in ("group", "tree", "sas", "dcpo_tree"):
        found = values(tmp_path, broken, advantage=advantage, leaf_weighting="inverse_fork")
        assert found[0] == 0.0
        assert all(math.isfinite(value) for value in found)
        assert found[2] > 0


@pytest.mark.parametrize("advantage", ["group", "tree", "sas", "dcpo_tree"])
@pytest.mark.parametrize("adv_norm", ["batch_scale", "none"])
def test_advantages_do_not_depend_on_how_trees_are_spread_over_ranks(
    tmp_path: Path, advantage: str, adv_norm: str
) -> None:
    trees = [EXAMPLE, with_rewards([EXAMPLE], [0.0, 0.0, 1.0, 1.0, 0.0, 1.0])[0]]
    settings = {"advantage": advantage, "adv_norm": adv_norm, "leaf_weighting": "inverse_fork"}
    straight = values(tmp_path, trees, **settings)
    swapped = values(tmp_path, trees[::-1], **settings)
    assert straight == pytest.approx(swapped[6:] + swapped[:6], abs=1e-6)


def test_loss_weights_have_mean_one_in_every_tree() -> None:
    weights = loss_weights([EXAMPLE, EXAMPLE])
    assert weights[:6] == pytest.approx([0.5, 0.5, 1.0, 1.0, 1.0, 2.0])
    assert weights[6:] == weights[:6]


def test_rewards_are_dealt_out_in_the_order_of_the_rows() -> None:
    dealt = with_rewards([EXAMPLE, EXAMPLE], [float(i) for i in range(12)])
    assert dealt[1].rewards == (6.0, 7.0, 8.0, 9.0, 10.0, 11.0)
    with pytest.raises(ValueError, match="5 rewards for 6 leaves"):
        with_rewards([EXAMPLE], [0.0] * 5)


def test_groups_of_a_tree_list_its_training_rows() -> None:
    tree = RolloutTree(prompt_id="p", example={})
    tree.add_segment(parent=None, token_ids=[1, 2], policy_version=0)
    for parent, finish in ((0, None), (1, FinishReason.EOS), (1, FinishReason.EOS)):
        draws = TokenDraws(logprobs=(0.0,) * 3, behaviour_logprobs=(0.0,) * 3, entropies=(0.0,) * 3)
        tree.add_segment(
            parent=parent, token_ids=[7, 8, 9], policy_version=0, draws=draws, finish=finish
        )
    assert leaf_groups([tree]) == [
        LeafGroup(prompt_id="p", paths=((0, 1, 2), (0, 1, 3)), num_tokens=(6, 6))
    ]
