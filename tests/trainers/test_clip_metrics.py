"""Clip counts of a hand-made batch, and their reduction over micro-batches and ranks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trainers.clip_metrics import (
    NUM_COUNTS,
    clip_counts,
    clip_metrics,
    merge_clip_counts,
    token_clip_ratio,
)
from trainers.losses import clipped_token_loss, dac_bounds

# (q, p, advantage, in the mask): one row per case; clip of DCPO's defaults in the comment
TOKENS = [
    (0.001, 0.02, 1.0, True),  # high, bucket 0
    (0.001, 0.02, -1.0, True),  # capped, bucket 0
    (0.005, 0.005, 1.0, True),  # free, bucket 0
    (0.05, 0.01, -1.0, True),  # low, bucket 1
    (0.05, 0.05, -1.0, True),  # free, bucket 1
    (0.5, 0.7, 1.0, True),  # high, bucket 2
    (0.95, 0.70, -1.0, True),  # low, bucket 3, confident
    (0.95, 0.95, 1.0, True),  # free, bucket 3, confident
    (0.001, 0.9, 1.0, False),  # masked out
    (0.95, 0.01, -1.0, False),  # masked out
]
RATIOS = [20, 20, 1, 0.2, 1, 1.4, 0.70 / 0.95, 1]


def _counts(rows: slice) -> Tensor:
    q, p, advantages, mask = (torch.tensor(column) for column in zip(*TOKENS[rows], strict=True))
    old, new = q[:, None].log(), p[:, None].log()
    _, clip = clipped_token_loss(
        new,
        old,
        advantages,
        *dac_bounds(old, 0.16, 0.2, 10.0),
        loss_mask_BT=mask[:, None],
        ratio_cap=10.0,
    )
    return clip_counts(clip, old, mask[:, None])


def test_metrics_of_a_hand_made_batch() -> None:
    expected = {
        "clip/token_frac": 4 / 8,
        "clip/high_frac": 2 / 8,
        "clip/low_frac": 2 / 8,
        "clip/capped_frac": 1 / 8,
        "clip/confident_frac": 2 / 8,
        "policy/ratio_mean": sum(RATIOS) / 8,
        "policy/ratio_max": 20.0,
        "clip/high_frac/q_below_0.01": 1 / 3,
        "clip/low_frac/q_below_0.01": 0.0,
        "clip/high_frac/q_0.01_0.1": 0.0,
        "clip/low_frac/q_0.01_0.1": 1 / 2,
        "clip/high_frac/q_0.1_0.64": 1.0,
        "clip/low_frac/q_0.1_0.64": 0.0,
        "clip/high_frac/q_above_0.64": 0.0,
        "clip/low_frac/q_above_0.64": 1 / 2,
    }
    assert clip_metrics(_counts(slice(None))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("cut", [1, 3, 5, 8])
def test_counts_of_parts_merge_to_the_counts_of_the_whole(cut: int) -> None:
    parts = torch.stack([_counts(slice(0, cut)), _counts(slice(cut, None))])
    torch.testing.assert_close(merge_clip_counts(parts), _counts(slice(None)))


def test_mean_over_micro_batches_differs_from_the_token_weighted_ratio() -> None:
    first, second = _counts(slice(0, 1)), _counts(slice(1, 8))
    assert token_clip_ratio(first) == 1.0
    assert token_clip_ratio(second) == pytest.approx(3 / 7)
    assert token_clip_ratio(merge_clip_counts(torch.stack([first, second]))) == 4 / 8


def test_a_batch_without_loss_tokens_counts_nothing_and_merges() -> None:
    empty = _counts(slice(8, None))
    assert empty.shape == (NUM_COUNTS,)
    assert empty[:-1].eq(0).all()
    assert set(clip_metrics(empty).values()) == {0.0}
    assert token_clip_ratio(empty) == 0.0
    merged = merge_clip_counts(torch.stack([empty, _counts(slice(0, 8))]))
    assert torch.equal(merged, _counts(slice(0, 8)))


def test_one_update_per_rollout_clips_nothing() -> None:
    old = torch.linspace(-20, 0, 50)[None]
    mask = torch.ones_like(old, dtype=torch.bool)
    _, clip = clipped_token_loss(
        old, old, torch.ones(1), *dac_bounds(old, 0.16, 0.2, 10.0), loss_mask_BT=mask
    )
    metrics = clip_metrics(clip_counts(clip, old, mask))
    assert metrics["clip/token_frac"] == 0.0
    assert metrics["policy/ratio_mean"] == metrics["policy/ratio_max"] == 1.0


def test_impossible_old_tokens_are_counted_in_the_lowest_bucket() -> None:
    old = torch.tensor([[-math.inf]])
    mask = torch.tensor([[True]])
    _, clip = clipped_token_loss(
        torch.tensor([[-1.0]]),
        old,
        torch.ones(1),
        *dac_bounds(old, 0.16, 0.2, 10.0),
        loss_mask_BT=mask,
    )
    assert clip_metrics(clip_counts(clip, old, mask))["clip/high_frac/q_below_0.01"] == 1.0


def test_an_edge_belongs_to_the_bucket_above_it() -> None:
    old = torch.tensor([[math.log(0.01)]])
    mask = torch.tensor([[True]])
    _, clip = clipped_token_loss(
        old + 3.0, old, torch.ones(1), *dac_bounds(old, 0.16, 0.2, 10.0), loss_mask_BT=mask
    )
    assert clip_metrics(clip_counts(clip, old, mask))["clip/high_frac/q_0.01_0.1"] == 1.0
