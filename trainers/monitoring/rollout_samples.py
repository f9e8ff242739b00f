"""Rollout trees as text and JSON lines, every few rollout batches: the first thing to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rollout.dump import tree_text, write_jsonl
from rollout.tree_sample import Decode, TreeSample, annotate
from trainers.monitoring.rollout_tables import log_trees

if TYPE_CHECKING:
    from trainers.policy_trainer import RolloutBatch

FOLDER = "rollouts"


class RolloutSamples(TrainerCallback):
    """Writes the first trees of a rollout batch to <run>/rollouts/step_000040.{txt,jsonl}."""

    def __init__(
        self,
        run_dir: Path,
        *,
        newest: Callable[[], RolloutBatch | None],
        decode: Decode,
        every: int,
        num_trees: int = 2,
    ) -> None:
        self.folder = run_dir / FOLDER
        self.newest = newest
        self.decode = decode
        self.every = every
        self.num_trees = num_trees
        self._next_step = 0

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # Trainer passes model, optimizer and more
    ) -> None:
        """Write a batch that was not written yet, when its turn has come."""
        batch = self.newest()
        if batch is None or batch.step < self._next_step or not state.is_world_process_zero:
            return
        self._next_step = batch.step + self.every
        samples = tree_samples(batch, self.decode, self.num_trees)
        write_samples(self.folder, batch.step, samples, self.decode)
        log_trees(samples, rollout_step=batch.step, global_step=state.global_step)


def tree_samples(batch: RolloutBatch, decode: Decode, num_trees: int) -> list[TreeSample]:
    """The first trees of a batch with their texts, rewards and advantages."""
    samples, first = [], 0
    for tree in batch.trees[:num_trees]:
        leaves = slice(first, first + len(tree.leaves))
        samples.append(
            annotate(
                tree, decode, scores=batch.rewards[leaves], advantages=batch.advantages[leaves]
            )
        )
        first += len(tree.leaves)
    return samples


def write_samples(folder: Path, step: int, samples: Sequence[TreeSample], decode: Decode) -> None:
    """Write trees with rewards and advantages per leaf, as text and as JSON lines."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [
        tree_text(sample.tree, decode, scores=sample.scores, advantages=sample.advantages)
        for sample in samples
    ]
    name = folder / f"step_{step:06d}"
    name.with_suffix(".txt").write_text("\n\n".join(texts) + "\n")
    with name.with_suffix(".jsonl").open("w") as file:
        write_jsonl(samples, file)
