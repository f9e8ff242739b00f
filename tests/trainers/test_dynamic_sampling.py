"""Replacing prompts without signal: which, by what, on which rank; then inside real training."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from rollout.config import RolloutConfig
from rollout.tree import RolloutTree
from tests.tiny_policy import logged, tiny_trainer
from tests.toy_rewards import StartsHigh
from trainers.dynamic_sampling import (
    Draw,
    Replacements,
    Row,
    SamplingCounts,
    combined_reward,
    draw_with_signal,
)
from trainers.policy_trainer import PolicyTrainer

DATA: list[dict[str, Any]] = [{"prompt_id": f"p{i}", "hard": i % 3 == 0} for i in range(30)]
TREE = RolloutConfig(width=4, segment_length=4, max_segments=3)


def judge(rows: Sequence[Row], round_number: int) -> list[Draw]:
    """Every third prompt is uniform."""
    return [
        Draw(
            row=row,
            tree=RolloutTree(prompt_id=row["prompt_id"], example=row),
            scores=((0.0,), (0.0 if row["hard"] else 1.0,)),
        )
        for row in rows
    ]


def sample(
    rows: Sequence[Row],
    *,
    rounds: int = 2,
    data: Sequence[Row] = DATA,
    rank: int = 0,
    gather: Callable[[list[Any]], list[Any]] = lambda values: values,
    taken: Sequence[Row] | None = None,
) -> tuple[list[Draw], SamplingCounts]:
    ids = [row["prompt_id"] for row in (rows if taken is None else taken)]
    return draw_with_signal(
        rows,
        Replacements(data, seed=3, step=7, taken=ids),
        draw=judge,
        gather=gather,
        rank=rank,
        num_rounds=rounds,
        reward_weights=[1.0],
    )


def ids(draws: Sequence[Draw]) -> list[str]:
    return [draw.row["prompt_id"] for draw in draws]


def test_uniform_prompts_give_their_places_to_others() -> None:
    draws, counts = sample(DATA[:9], rounds=9)
    assert [a == b["prompt_id"] for a, b in zip(ids(draws), DATA, strict=False)] == [
        not row["hard"] for row in DATA[:9]
    ]
    assert not any(draw.row["hard"] for draw in draws)
    assert len(set(ids(draws))) == 9
    assert counts.kept_uniform == 0
    assert counts.generated >= 12


def test_rounds_are_bounded_and_what_stays_is_counted() -> None:
    hard = [row for row in DATA if row["hard"]]
    draws, counts = sample(hard[:4], rounds=2, data=hard)
    assert counts == SamplingCounts(generated=10, rounds=2, kept_uniform=4)
    assert all(draw.row["hard"] for draw in draws)
    assert counts.metrics(4) == {
        "rollout/oversampling": 2.5,
        "rollout/dropped_prompts": 6.0,
        "rollout/dynamic_rounds": 2.0,
        "rollout/kept_uniform_prompts": 4.0,
    }


def test_without_uniform_prompts_nothing_is_drawn() -> None:
    easy = [row for row in DATA if not row["hard"]][:5]
    draws, counts = sample(easy)
    assert ids(draws) == [row["prompt_id"] for row in easy]
    assert counts == SamplingCounts(generated=5)


def test_small_data_run_out() -> None:
    draws, counts = sample(DATA[:3], rounds=5, data=DATA[:3])
    assert ids(draws) == ["p0", "p1", "p2"]
    assert counts == SamplingCounts(generated=3, kept_uniform=1)


def test_replacements_depend_on_seed_and_step_and_avoid_the_batch() -> None:
    def order(seed: int, step: int) -> list[str]:
        rows = Replacements(DATA, seed=seed, step=step, taken=["p3"])
        return [row["prompt_id"] for part in (1, 2, 40) for row in rows.take(part)]

    assert sorted(order(0, 0)) == sorted({row["prompt_id"] for row in DATA} - {"p3"})
    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(*key)) for key in ((0, 0), (0, 1), (1, 0))}) == 3


@pytest.mark.parametrize("split", [[6, 3], [3, 6], [3, 3, 3], [9, 0]])
def test_any_number_of_ranks_draws_the_same_prompts(split: list[int]) -> None:
    expected, counts = sample(DATA[:9])
    gather, slots = meeting(len(split))
    parts: list[tuple[list[Draw], SamplingCounts]] = [None] * len(split)  # type: ignore[list-item]

    def work(rank: int) -> None:
        slots.rank = rank
        first = sum(split[:rank])
        rows = DATA[first : first + split[rank]]
        parts[rank] = sample(rows, rank=rank, gather=gather, taken=DATA[:9])

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(split))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert [name for draws, _ in parts for name in ids(draws)] == ids(expected)
    assert all(one == counts for _, one in parts)


def meeting(size: int) -> tuple[Callable[[list[Any]], list[Any]], threading.local]:
    """A gather over threads; each thread sets `.rank` on the second value."""
    here, barrier, shared = threading.local(), threading.Barrier(size, timeout=20), {}

    def gather(values: list[Any]) -> list[Any]:
        shared[here.rank] = values
        barrier.wait()
        found = [value for rank in range(size) for value in shared[rank]]
        barrier.wait()
        return found

    return gather, here


def test_combined_rewards_leave_out_what_could_not_be_judged() -> None:
    nan = math.nan
    assert combined_reward([1.0, nan], [2.0, 5.0]) == 2.0
    assert combined_reward([1.0, 1.0], [2.0, 0.5]) == 2.5
    assert math.isnan(combined_reward([nan, nan], [1.0, 1.0]))
    row = Draw(row={}, tree=RolloutTree(prompt_id="p", example={}), scores=((nan,), (1.0,)))
    assert row.is_uniform([1.0])


def start(folder: Path, *, rounds: int = 2, **settings: Any) -> PolicyTrainer:
    return tiny_trainer(
        folder,
        rollout=TREE,
        reward=StartsHigh(),
        num_prompts=24,
        advantage="tree",
        aggregation="token_mean",
        dynamic_sampling_rounds=rounds,
        **{"max_steps": 8, **settings},
    )


def parameters(trainer: PolicyTrainer) -> torch.Tensor:
    assert trainer.model is not None
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def test_training_replaces_prompts_and_counts_them(tmp_path: Path) -> None:
    off = start(tmp_path / "off", rounds=0)
    off.train()
    on = start(tmp_path / "on")
    on.train()
    shares = logged(off, "tree/uniform_frac_depth_0")
    assert max(shares) > 0
    assert sum(logged(on, "tree/uniform_frac_depth_0")) < sum(shares)
    kept = logged(on, "rollout/kept_uniform_prompts")
    assert [4 * x for x in logged(on, "tree/uniform_frac_depth_0")] == pytest.approx(kept)
    assert max(logged(on, "rollout/oversampling")) > 1
    assert logged(on, "rollout/leaves_per_prompt") == [4.0] * 4
    generated = logged(on, "rollout/generated_tokens")
    used = logged(on, "rollout/sampled_tokens")
    assert all(a >= b for a, b in zip(generated, used, strict=True))
    assert sum(generated) > sum(used)


def test_rewards_of_the_batch_are_those_of_the_chosen_trees(tmp_path: Path) -> None:
    trainer = start(tmp_path, max_steps=1)
    trainer.train()
    batch = trainer.newest_rollout
    assert batch is not None
    texts = [
        trainer.decode(row.token_ids[row.bounds[0][1] :])
        for t in batch.trees
        for row in t.trajectories()
    ]
    assert batch.rewards == [float(text[:1] in tuple("56789")) for text in texts]
    assert len({tree.prompt_id for tree in batch.trees}) == 4


@pytest.mark.parametrize("step", [3, 4, 6])
def test_resumed_runs_draw_the_same_prompts(tmp_path: Path, step: int) -> None:
    straight = start(tmp_path / "a", save_strategy="steps", save_steps=step)
    straight.train()
    resumed = start(tmp_path / "b", save_strategy="steps", save_steps=100)
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / f"checkpoint-{step}"))
    for key in ("loss", "reward", "rollout/oversampling", "rollout/generated_tokens"):
        assert logged(resumed, key) == logged(straight, key), key
    assert torch.equal(parameters(resumed), parameters(straight))
