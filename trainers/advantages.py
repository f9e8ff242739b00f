"""Advantages of flat prompt groups: GRPO, Dr. GRPO, DCPO's smooth standardisation, batch scaling.

Sources: GRPO (arXiv 2402.03300), Dr. GRPO (2503.20783), DCPO (2509.02333, eq. 5-7 and A.7),
REINFORCE++-style batch normalisation as in TreePO (2508.17445). Trees: tree_advantages.py.

Deviations from DCPO's code:

* population variance by default (A.7 of the paper), which makes the merge exact; the code uses the
  sample variance ("sample" reproduces it);
* groups may have any size;
* an unscorable response (reward NaN) is left out of every statistic and gets advantage 0.

A group whose rewards are all equal is recognised exactly (largest = smallest), never by a
threshold; no epsilon is needed. Arithmetic is float64; results are float32 tensors or floats.

Shapes: P prompts, G responses of a prompt, B rows of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

StdKind = Literal["population", "sample"]
"""Divide the sum of squares by n (population) or n - 1 (sample)."""
BatchNorm = Literal["batch_whiten", "batch_scale", "none"]
WHITEN_EPSILON = 1e-8
"""Added to the batch variance before the root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardStats:
    """Everything a prompt's rewards leave behind, over all visits so far."""

    visits: int = 0
    """Visits with at least one scorable response (the paper's i after the newest visit)."""
    count: int = 0
    """Scorable rewards."""
    mean: float = 0.0
    """Their mean (mu_total)."""
    m2: float = 0.0
    """count * variance (sum of squared deviations from the mean for population variance)."""

    @property
    def std(self) -> float:
        """The total standard deviation (sigma_total), 0 for an empty record."""
        return math.sqrt(self.m2 / self.count) if self.count else 0.0

    def merged(self, new: RewardStats) -> RewardStats:
        """Return the record of both sets of rewards; the visits add up.

        Exact pooling for groups of unequal size: d = m - mu, mu' = mu + d n/N',
        M2' = M2 + S + d^2 N n/N'. For equal sizes this is the merge of DCPO, A.7.
        """
        if not self.count or not new.count:
            return new if new.count else self
        count = self.count + new.count
        delta = new.mean - self.mean
        return RewardStats(
            visits=self.visits + new.visits,
            count=count,
            mean=self.mean + delta * new.count / count,
            m2=self.m2 + new.m2 + delta * delta * self.count * new.count / count,
        )


def group_advantages(
    rewards_PG: Tensor,
    *,
    scale: StdKind | Literal["none"] = "population",
    epsilon: float = 0.0,
) -> Tensor:
    """Return (R - mean) / (std + epsilon) within each group, float32 [P, G] (GRPO).

    Args:
        rewards_PG: [P, G]; NaN = unscorable: left out of mean and std, advantage 0.
        scale: Which std; "none" returns R - mean (Dr. GRPO).
        epsilon: Added to the std; trl uses the sample std and 1e-4.

    Returns:
        [P, G] float32; exactly 0 in groups whose scorable rewards are all equal.

    Example: 1 0 0 0 gives 1.732051 and three times -0.577350.
    """
    rewards_PG = rewards_PG.double()
    scorable_PG = ~rewards_PG.isnan()
    count_P1 = scorable_PG.sum(dim=-1, keepdim=True)
    mean_P1 = rewards_PG.nansum(dim=-1, keepdim=True) / count_P1.clamp(min=1)
    is_idle_PG = ~scorable_PG | uniform_groups(rewards_PG)[:, None]
    deviation_PG = (rewards_PG - mean_P1).masked_fill(is_idle_PG, 0.0)
    if scale == "none":
        return deviation_PG.float()
    degrees_P1 = count_P1 - 1 if scale == "sample" else count_P1
    variance_P1 = deviation_PG.square().sum(dim=-1, keepdim=True) / degrees_P1.clamp(min=1)
    std_P1 = variance_P1.sqrt() + epsilon
    return (deviation_PG / std_P1).masked_fill(is_idle_PG, 0.0).float()


def uniform_groups(rewards_PG: Tensor) -> Tensor:
    """Return, as bool [P], which groups have no two different scorable rewards (no signal)."""
    is_missing_PG = rewards_PG.isnan()
    largest_P = rewards_PG.masked_fill(is_missing_PG, -math.inf).amax(dim=-1)
    smallest_P = rewards_PG.masked_fill(is_missing_PG, math.inf).amin(dim=-1)
    return largest_P <= smallest_P


def describe_rewards(
    rewards: Sequence[float],
    *,
    std: StdKind = "population",
    weights: Sequence[float] | None = None,
) -> RewardStats:
    """Return the record of one visit with these rewards; independent of their order.

    Args:
        rewards: Rewards of one prompt; NaN = unscorable, left out.
        std: With "sample", m2 is n * (sum of squares / (n - 1)), so that `RewardStats.merged`
            reproduces the merge of DCPO's code.
        weights: Relative weight of each reward (inverse-fork leaf weights); None = equal.

    Returns:
        visits is 1, or 0 if nothing was scorable.
    """
    pairs = [
        (reward, weight)
        for reward, weight in zip(rewards, weights or [1.0] * len(rewards), strict=True)
        if not math.isnan(reward)
    ]
    if not pairs:
        return RewardStats()
    count = len(pairs)
    if min(pairs)[0] == max(pairs)[0]:
        return RewardStats(visits=1, count=count, mean=pairs[0][0])
    total = math.fsum(weight for _, weight in pairs)
    mean = math.fsum(reward * weight for reward, weight in pairs) / total
    m2 = math.fsum(weight * (reward - mean) ** 2 for reward, weight in pairs) * count / total
    return RewardStats(
        visits=1, count=count, mean=mean, m2=m2 * count / (count - 1) if std == "sample" else m2
    )


def smooth_advantages(
    rewards: Sequence[float],
    before: RewardStats,
    *,
    std: StdKind = "population",
    weights: Sequence[float] | None = None,
) -> tuple[list[float], RewardStats]:
    """Return DCPO's smooth advantages of one visit and the record after it (SAS).

    DCPO, arXiv 2509.02333, eq. 5-7, for visit i of the prompt: A_new standardises with this visit,
    A_total with everything the prompt ever produced, this visit included;
    SA_new = (i-1)/i A_new + 1/i A_total, SA_total = 1/i A_new + (i-1)/i A_total; the smaller in
    magnitude is taken. At i = 1 this is GRPO. A uniform visit of a prompt that was ever non-uniform
    gives A_total / i to all its responses.

    Args:
        rewards: All rewards of this prompt in this visit; NaN = unscorable, advantage 0.
        before: Record before this visit, `RewardStats()` for a new prompt.
        std: As in `describe_rewards`.
        weights: As in `describe_rewards`; they enter the statistics only.

    Returns:
        Advantages in the order of `rewards`, and the record after the visit (equal to `before`
        if nothing was scorable).

    Example: 1 1 1 1 after a visit with 1 0 0 0 gives four times 0.387298.
    """
    new = describe_rewards(rewards, std=std, weights=weights)
    after = before.merged(new)
    visit = after.visits

    def smooth(reward: float) -> float:
        if math.isnan(reward):
            return 0.0
        by_visit, by_total = _standardise(reward, new), _standardise(reward, after)
        mostly_visit = ((visit - 1) * by_visit + by_total) / visit
        mostly_total = (by_visit + (visit - 1) * by_total) / visit
        return mostly_visit if abs(mostly_visit) < abs(mostly_total) else mostly_total

    return [smooth(reward) for reward in rewards], after


def weighted_group_advantages(
    rewards: Sequence[float],
    weights: Sequence[float] | None,
    *,
    is_scaled: bool = True,
    epsilon: float = 1e-4,
) -> list[float]:
    """Return (R - mean) / (std + epsilon) of one group with weighted statistics.

    With equal weights these are trl's GRPO advantages (sample std, epsilon 1e-4), up to float32.

    Args:
        rewards: All rewards of one prompt; NaN = unscorable, advantage 0.
        weights: Relative weight of each reward (inverse-fork leaf weights); None = equal.
        is_scaled: Divide by the std; False gives R - mean (Dr. GRPO).
        epsilon: Added to the std.
    """
    stats = describe_rewards(rewards, std="sample", weights=weights)
    scale = stats.std + epsilon if is_scaled else 1.0
    return [0.0 if math.isnan(reward) else (reward - stats.mean) / scale for reward in rewards]


def advantage_sums(advantages_B: Tensor, num_tokens_B: Tensor) -> Tensor:
    """Return (tokens, tokens * A, tokens * A^2) summed over the rows, float64 [3].

    Add the vectors of all ranks, then pass the sum to `normalise_advantages`.

    Args:
        advantages_B: [B], one per row.
        num_tokens_B: [B], loss tokens of the row: its weight.
    """
    advantages_B, num_tokens_B = advantages_B.double(), num_tokens_B.double()
    return torch.stack([(num_tokens_B * advantages_B**power).sum() for power in range(3)])


def normalise_advantages(advantages_B: Tensor, sums: Tensor, mode: BatchNorm) -> Tensor:
    """Return the advantages scaled by their token-weighted spread over the global batch.

    TreePO, arXiv 2508.17445: "batch_scale" is the paper (divide by the std), "batch_whiten" its
    code (also subtract the mean, which can flip the sign of small advantages and removes a mean
    that smooth standardisation creates on purpose), "none" changes nothing. The variance is the
    sample variance over tokens, plus 1e-8. If all tokens have the same advantage, batch_scale
    leaves it unscaled and batch_whiten gives 0.

    Args:
        advantages_B: [B] float, rows of this rank.
        sums: [3], `advantage_sums` added over all ranks.
        mode: See above.

    Returns:
        [B] float32.
    """
    if mode == "none":
        return advantages_B.float()
    num_tokens, first, second = sums.tolist()
    if num_tokens <= 0:
        raise ValueError(f"{num_tokens:g} loss tokens in the batch: there is nothing to normalise")
    mean = first / num_tokens
    variance = (second - first * mean) / max(num_tokens - 1, 1)
    shifted_B = advantages_B.double() - (mean if mode == "batch_whiten" else 0.0)
    if variance <= 1e-12 * mean * mean:  # rounding of equal advantages, not a spread
        return (0.0 * shifted_B if mode == "batch_whiten" else shifted_B).float()
    return (shifted_B / math.sqrt(variance + WHITEN_EPSILON)).float()


def response_utilisation(
    advantages_B: Tensor, *, threshold: float = 0.0, num_generated: int | None = None
) -> float:
    """Return the share of generated responses with |A| above the threshold (DCPO's RUR).

    Args:
        advantages_B: [B], responses of all ranks.
        threshold: 0 for the paper's definition; 0.05 shows how much of it is only the faint signal
            of uniform groups.
        num_generated: Denominator; None = B. With dynamic sampling, everything that was generated.
    """
    total = advantages_B.numel() if num_generated is None else num_generated
    return int((advantages_B.abs() > threshold).sum()) / total if total else 0.0


def _standardise(reward: float, stats: RewardStats) -> float:
    return (reward - stats.mean) / stats.std if stats.m2 > 0 else 0.0
