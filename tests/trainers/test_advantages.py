"""Group, smooth and batch-normalised advantages against tables and direct computations."""

from __future__ import annotations

import math
import random
import statistics
from typing import Literal

import pytest
import torch
from torch import Tensor

from trainers.advantages import (
    BatchNorm,
    RewardStats,
    StdKind,
    advantage_sums,
    describe_rewards,
    group_advantages,
    normalise_advantages,
    response_utilisation,
    smooth_advantages,
    uniform_groups,
)

NAN = math.nan


def _visits(
    *groups: list[float], std: StdKind = "population"
) -> list[tuple[list[float], RewardStats]]:
    results, stats = [], RewardStats()
    for group in groups:
        advantages, stats = smooth_advantages(group, stats, std=std)
        results.append((advantages, stats))
    return results


# ---- groups


def test_group_advantages_standardise_with_the_population_std() -> None:
    got = group_advantages(torch.tensor([[1.0, 0, 0, 0], [1, 0, 0, -1]]))
    expected = torch.tensor(
        [[1.732051, -0.577350, -0.577350, -0.577350], [1.414214, 0, 0, -1.414214]]
    )
    torch.testing.assert_close(got, expected, atol=6e-7, rtol=0)
    assert got.dtype == torch.float32


def test_group_advantages_with_sample_std_and_epsilon_are_those_of_trl() -> None:
    rewards = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    mean, std = rewards.mean(dim=1, keepdim=True), rewards.std(dim=1, keepdim=True)
    got = group_advantages(rewards, scale="sample", epsilon=1e-4)
    torch.testing.assert_close(got, (rewards - mean) / (std + 1e-4), atol=1e-5, rtol=1e-5)


def test_scale_none_is_reward_minus_mean() -> None:
    got = group_advantages(torch.tensor([[1.0, 0, 0, 0]]), scale="none")
    assert got.tolist() == [[0.75, -0.25, -0.25, -0.25]]


@pytest.mark.parametrize("scale", ["population", "sample", "none"])
def test_unscorable_responses_get_zero_and_leave_the_others_alone(
    scale: Literal["population", "sample", "none"],
) -> None:
    full = group_advantages(torch.tensor([[1.0, 0.0, 0.5]]), scale=scale)
    holes = group_advantages(torch.tensor([[1.0, NAN, 0.0, NAN, 0.5]]), scale=scale)
    assert holes[0, [1, 3]].tolist() == [0.0, 0.0]
    assert torch.equal(holes[0, [0, 2, 4]], full[0])


@pytest.mark.parametrize("scale", ["population", "sample", "none"])
@pytest.mark.parametrize(
    "group", [[0.1] * 3, [0.7] * 7, [NAN, 0.3, NAN], [NAN, NAN], [1e-3, 1e-3, NAN], [2.0]]
)
def test_uniform_groups_get_exactly_zero(
    group: list[float], scale: Literal["population", "sample", "none"]
) -> None:
    got = group_advantages(torch.tensor([group]), scale=scale)
    assert got.tolist() == [[0.0] * len(group)]


def test_uniform_groups_are_those_without_two_different_scorable_rewards() -> None:
    rewards = torch.tensor(
        [[1.0, 1, 1], [1, 0, 1], [1, NAN, 1], [1, NAN, 0], [NAN, NAN, NAN], [NAN, 2, NAN]]
    )
    assert uniform_groups(rewards).tolist() == [True, False, True, False, True, True]


# ---- statistics


def test_merging_unequal_groups_matches_the_worked_example() -> None:
    stats = RewardStats()
    expected = [(4, 0.25, 0.75, 0.433013), (10, 0.5, 2.5, 0.5), (12, 0.5, 3.0, 0.5)]
    for group, numbers in zip([[1, 0, 0, 0], [1, 1, 0, 1, 1, 0], [0, 1]], expected, strict=True):
        stats = stats.merged(describe_rewards(group))
        assert (stats.count, stats.mean, stats.m2, stats.std) == pytest.approx(numbers, abs=6e-7)
    assert stats.visits == 3


@pytest.mark.parametrize("seed", range(20))
def test_merged_statistics_are_the_pooled_ones_for_random_unequal_groups(seed: int) -> None:
    rng = random.Random(seed)
    stats, seen = RewardStats(), []
    for visit in range(1, 9):
        group = [rng.choice([-1.0, 0.0, 0.3, 1.0]) for _ in range(rng.randint(1, 9))]
        seen += group
        stats = stats.merged(describe_rewards(group))
        assert (stats.visits, stats.count) == (visit, len(seen))
        assert stats.mean == pytest.approx(statistics.fmean(seen), abs=1e-12)
        assert stats.std == pytest.approx(statistics.pstdev(seen), abs=1e-12)


def test_visits_of_merged_records_add_up() -> None:
    two = describe_rewards([1, 0]).merged(describe_rewards([0, 0]))
    both = two.merged(two)
    assert (both.visits, both.count, both.mean) == (4, 8, 0.25)


def test_statistics_do_not_depend_on_the_order_of_the_rewards() -> None:
    rng = random.Random(0)
    rewards = [rng.gauss(0, 1) for _ in range(50)]
    shuffled = rng.sample(rewards, k=50)
    assert describe_rewards(rewards) == describe_rewards(shuffled)


def test_weighted_statistics_equal_those_of_repeated_rewards() -> None:
    weighted = describe_rewards([1.0, 0.0, NAN, 0.5], weights=[0.1, 0.3, 0.4, 0.2])
    repeated = describe_rewards([1.0, 0.0, 0.0, 0.0, 0.5, 0.5])
    assert weighted.count == 3
    assert weighted.mean == pytest.approx(repeated.mean, abs=1e-15)
    assert weighted.std == pytest.approx(repeated.std, abs=1e-15)


def test_equal_weights_change_nothing() -> None:
    rewards = [1.0, 0.0, 0.0, -1.0]
    assert describe_rewards(rewards, weights=[0.25] * 4) == describe_rewards(rewards)


# ---- smooth standardisation


def test_three_visits_match_the_population_table() -> None:
    first, second, third = _visits([1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 1])
    assert first[0] == pytest.approx([1.732051] + [-0.577350] * 3, abs=6e-7)
    assert second[0] == pytest.approx([0.387298] * 4, abs=6e-7)
    assert third[0] == pytest.approx([0.620602, 0.620602, -1.520159, 0.620602], abs=6e-7)
    assert (first[1].mean, first[1].std) == pytest.approx((0.25, 0.433013), abs=6e-7)
    assert (second[1].mean, second[1].std) == pytest.approx((0.625, 0.484123), abs=6e-7)
    assert (third[1].mean, third[1].std) == pytest.approx((0.666667, 0.471405), abs=6e-7)


def test_three_visits_match_the_sample_table() -> None:
    first, second, third = _visits([1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 1], std="sample")
    assert first[0] == pytest.approx([1.5] + [-0.5] * 3, abs=6e-7)
    assert second[0] == pytest.approx([0.363803] * 4, abs=6e-7)
    assert third[0] == pytest.approx([0.549629, 0.549629, -1.365181, 0.549629], abs=6e-7)
    assert (second[1].mean, second[1].std) == pytest.approx((0.625, 0.515388), abs=6e-7)
    assert (third[1].mean, third[1].std) == pytest.approx((0.666667, 0.513701), abs=6e-7)


def _published_code(groups: list[list[float]]) -> list[float]:
    """The merge and mixture of DCPO's code (sample std), from the formulas; last visit."""
    mean_old, var_old = 0.0, 0.0
    for i, group in enumerate(groups, start=1):
        mean, var = statistics.fmean(group), statistics.variance(group)
        mean_total = (mean + (i - 1) * mean_old) / i
        var_total = (var + (i - 1) * var_old + (i - 1) / i * (mean_old - mean) ** 2) / i
        result = []
        for r in group:
            new = (r - mean) / math.sqrt(var) if var > 0 else 0.0
            total = (r - mean_total) / math.sqrt(var_total) if var_total > 0 else 0.0
            sa_new, sa_total = (i - 1) / i * new + total / i, new / i + (i - 1) / i * total
            result.append(sa_new if abs(sa_new) < abs(sa_total) else sa_total)
        mean_old, var_old = mean_total, var_total
    return result


@pytest.mark.parametrize("seed", range(10))
def test_sample_mode_follows_the_formulas_of_the_published_code(seed: int) -> None:
    rng = random.Random(seed)
    groups = [[float(rng.random() < 0.4) for _ in range(8)] for _ in range(6)]
    for visits in range(1, 7):
        got = _visits(*groups[:visits], std="sample")[-1][0]
        assert got == pytest.approx(_published_code(groups[:visits]), abs=1e-12)


def test_three_level_rewards_match_the_worked_example() -> None:
    first, second, third = _visits([1, 0, 0, -1], [1, 1, 0, 0], [1, 1, 1, 1])
    assert first[0] == pytest.approx([1.414214, 0, 0, -1.414214], abs=6e-7)
    assert second[0] == pytest.approx([1.066947] * 2 + [-0.688982] * 2, abs=6e-7)
    assert third[0] == pytest.approx([0.258199] * 4, abs=6e-7)


def test_a_late_first_success_matches_the_worked_example() -> None:
    first, second, third = _visits([0] * 4, [0] * 4, [0, 0, 0, 1])
    assert first[0] == second[0] == [0.0] * 4
    assert third[0] == pytest.approx([-0.393458] * 3 + [2.260242], abs=6e-7)


@pytest.mark.parametrize(
    ("rate", "sizes"),
    [
        (0.5, (0.288675, 0.193649, 0.110240)),
        (0.75, (0.188982, 0.120096, 0.066144)),
        (0.25, (0.387298, 0.283473, 0.172712)),
    ],
)
def test_an_all_correct_visit_has_the_tabled_signal(
    rate: float, sizes: tuple[float, float, float]
) -> None:
    mixed = [1.0] * int(16 * rate) + [0.0] * int(16 * (1 - rate))
    for visit, size in zip((2, 4, 8), sizes, strict=True):
        advantages, _ = _visits(*[mixed] * (visit - 1), [1.0] * 16)[-1]
        assert advantages == pytest.approx([size] * 16, abs=6e-7)


@pytest.mark.parametrize(
    ("visit", "largest"), [(1, 3.872983), (2, 4.720374), (4, 4.889051), (8, 4.797539)]
)
def test_a_single_success_ever_has_the_tabled_advantage(visit: int, largest: float) -> None:
    advantages, _ = _visits(*[[0.0] * 16] * (visit - 1), [1.0] + [0.0] * 15)[-1]
    assert max(advantages) == pytest.approx(largest, abs=6e-7)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("std", ["population", "sample"])
def test_the_first_visit_is_plain_grpo(seed: int, std: StdKind) -> None:
    rng = random.Random(seed)
    rewards = [rng.choice([-1.0, 0.0, 0.5, 1.0, NAN]) for _ in range(8)]
    advantages, _ = smooth_advantages(rewards, RewardStats(), std=std)
    expected = group_advantages(torch.tensor([rewards]), scale=std)[0]
    assert advantages == pytest.approx(expected.tolist(), abs=1e-6)


def test_a_prompt_that_never_varied_gives_exactly_zero() -> None:
    for advantages, stats in _visits(*[[0.1] * n for n in (3, 7, 1, 5)]):
        assert set(advantages) == {0.0}
        assert stats.m2 == 0.0
        assert stats.mean == 0.1


def test_a_uniform_visit_gives_the_total_advantage_divided_by_the_visit_number() -> None:
    for visit, (advantages, stats) in enumerate(_visits([1, 0, 0], [1, 1, 1], [0, 0, 0]), start=1):
        if visit > 1:
            reward = 1.0 if visit == 2 else 0.0
            total = (reward - stats.mean) / stats.std
            assert advantages == pytest.approx([total / visit] * 3, abs=1e-12)


def test_unscorable_responses_leave_no_trace() -> None:
    before = describe_rewards([1, 0, 0, 0])
    holes, after_holes = smooth_advantages([1.0, NAN, 1.0, 0.0, NAN], before)
    clean, after_clean = smooth_advantages([1.0, 1.0, 0.0], before)
    assert holes == [clean[0], 0.0, clean[1], clean[2], 0.0]
    assert after_holes == after_clean


@pytest.mark.parametrize("std", ["population", "sample"])
def test_a_visit_without_scorable_rewards_changes_nothing(std: StdKind) -> None:
    before = describe_rewards([1, 0, 0, 0])
    assert smooth_advantages([NAN, NAN], before, std=std) == ([0.0, 0.0], before)
    assert smooth_advantages([NAN], RewardStats(), std=std) == ([0.0], RewardStats())


def test_a_visit_with_one_response_uses_the_total_only() -> None:
    advantages, stats = _visits([1, 0], [1.0], std="sample")[-1]
    assert advantages == pytest.approx([(1 - stats.mean) / stats.std / 2], abs=1e-12)


# ---- batch normalisation (numbers of the irregular tree in test_tree_advantages.py)

AVERAGE = torch.tensor([0.5, -0.5, 0.5, -1 / 12, -1 / 12, -1 / 3], dtype=torch.float64)
SIZE_WEIGHTED = torch.tensor([6 / 11, -5 / 11, 5 / 9, -1 / 6, -1 / 6, -1 / 3], dtype=torch.float64)
TOKENS = torch.tensor([1200, 1500, 900, 1800, 2048, 400])


@pytest.mark.parametrize(
    ("advantages", "mode", "expected"),
    [
        (AVERAGE, "batch_whiten", [1.479346, -1.367616, 1.479346, -0.181381, -0.181381, -0.893122]),
        (AVERAGE, "batch_scale", [1.423481, -1.423481, 1.423481, -0.237247, -0.237247, -0.948987]),
        (
            SIZE_WEIGHTED,
            "batch_whiten",
            [1.570757, -1.119227, 1.597929, -0.344838, -0.344838, -0.793168],
        ),
        (AVERAGE, "none", AVERAGE.tolist()),
    ],
)
def test_batch_normalisation_matches_the_worked_example(
    advantages: Tensor, mode: BatchNorm, expected: list[float]
) -> None:
    got = normalise_advantages(advantages, advantage_sums(advantages, TOKENS), mode)
    assert got.tolist() == pytest.approx(expected, abs=6e-7)
    assert got.dtype == torch.float32


@pytest.mark.parametrize("mode", ["batch_whiten", "batch_scale"])
def test_batch_normalisation_does_not_depend_on_the_ranks(mode: BatchNorm) -> None:
    whole = normalise_advantages(AVERAGE, advantage_sums(AVERAGE, TOKENS), mode)
    ranks = [torch.tensor([4, 0]), torch.tensor([5, 2, 1, 3])]
    total = sum((advantage_sums(AVERAGE[r], TOKENS[r]) for r in ranks), torch.zeros(3))
    for rows in ranks:
        got = normalise_advantages(AVERAGE[rows], total, mode)
        torch.testing.assert_close(got, whole[rows], atol=1e-6, rtol=0)


def test_whitening_equals_the_direct_computation_over_tokens() -> None:
    tokens = AVERAGE.repeat_interleave(TOKENS)
    expected = (AVERAGE - tokens.mean()) / tokens.std(correction=1)
    got = normalise_advantages(AVERAGE, advantage_sums(AVERAGE, TOKENS), "batch_whiten")
    torch.testing.assert_close(got, expected.float(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("value", [0.3, 0.0, -1.7])
def test_equal_advantages_are_left_unscaled_or_whitened_to_zero(value: float) -> None:
    same = torch.full((5,), value, dtype=torch.float64)
    sums = advantage_sums(same, torch.tensor([3, 1, 4, 1, 5]))
    assert normalise_advantages(same, sums, "batch_scale").tolist() == pytest.approx([value] * 5)
    assert normalise_advantages(same, sums, "batch_whiten").tolist() == [0.0] * 5


def test_normalising_a_batch_without_tokens_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 loss tokens"):
        normalise_advantages(torch.zeros(1), torch.zeros(3), "batch_scale")


# ---- utilisation


def test_utilisation_counts_a_uniform_group_only_from_its_second_visit() -> None:
    (first, _), (second, _) = _visits([0, 0, 0, 0], [1, 1, 1, 1])
    mixed = [1.0, -1.0, 1.0, -1.0]
    assert response_utilisation(torch.tensor(mixed + first)) == 0.5
    assert response_utilisation(torch.tensor(mixed + second)) == 1.0


def test_utilisation_with_a_threshold_ignores_faint_signals() -> None:
    advantages = torch.tensor([0.04, -0.04, 0.06, -0.06, 0.0])
    assert response_utilisation(advantages) == pytest.approx(4 / 5)
    assert response_utilisation(advantages, threshold=0.05) == pytest.approx(2 / 5)


def test_utilisation_under_dynamic_sampling_divides_by_everything_generated() -> None:
    assert response_utilisation(torch.tensor([1.0, -1.0]), num_generated=8) == 0.25
    assert response_utilisation(torch.tensor([])) == 0.0
