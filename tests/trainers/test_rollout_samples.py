"""The files of recorded rollout trees."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from tests.run_folders import decode, small_tree
from trainers.monitoring.rollout_samples import RolloutSamples, tree_samples
from trainers.policy_trainer import RolloutBatch

NAN = float("nan")


def batch(step: int) -> RolloutBatch:
    return RolloutBatch(
        step=step,
        trees=[small_tree(), small_tree(("a", "b", "c")), small_tree()],
        rewards=[1.0, NAN, 0.1, 0.2, 0.3, 9.0, 9.0],
        advantages=[0.5, 0.0, -0.1, -0.2, -0.3, 9.0, 9.0],
    )


def test_each_tree_gets_the_rewards_and_advantages_of_its_own_leaves() -> None:
    first, second = tree_samples(batch(0), decode, num_trees=2)
    assert (first.scores, first.advantages) == ((1.0, None), (0.5, 0.0))
    assert (second.scores, second.advantages) == ((0.1, 0.2, 0.3), (-0.1, -0.2, -0.3))


@pytest.mark.parametrize(("steps", "written"), [((0, 0, 1, 4), (0, 4)), ((3, 5, 8), (3, 8))])
def test_a_batch_is_written_once_when_its_turn_has_come(
    tmp_path: Path, steps: tuple[int, ...], written: tuple[int, ...]
) -> None:
    newest = iter([batch(step) for step in steps])
    callback = RolloutSamples(tmp_path, newest=lambda: next(newest), decode=decode, every=4)
    state = TrainerState(is_world_process_zero=True)
    for _ in steps:
        callback.on_step_end(cast(TrainingArguments, SimpleNamespace()), state, TrainerControl())
    files = sorted(path.name for path in (tmp_path / "rollouts").iterdir())
    assert files == [f"step_{step:06d}{end}" for step in written for end in (".jsonl", ".txt")]


def test_the_files_say_the_same_as_text_and_as_json(tmp_path: Path) -> None:
    callback = RolloutSamples(tmp_path, newest=lambda: batch(0), decode=decode, every=4)
    state = TrainerState(is_world_process_zero=True)
    callback.on_step_end(cast(TrainingArguments, SimpleNamespace()), state, TrainerControl())
    lines = (tmp_path / "rollouts" / "step_000000.jsonl").read_text().splitlines()
    assert [json.loads(line)["scores"] for line in lines] == [[1.0, None], [0.1, 0.2, 0.3]]
    assert json.loads(lines[1])["texts"][2:] == ["a", "b", "c"]
    text = (tmp_path / "rollouts" / "step_000000.txt").read_text()
    assert "finished score=none adv=+0.000" in text
    assert "'c' finished score=0.3 adv=-0.300" in text
