"""Rollout trees as text and JSON lines, every few rollout batches: the first thing to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rollout.dump import tree_text, write_jsonl

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
        decode: Callable[[Sequence[int]], str],
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
        write_samples(self.folder, batch, self.decode, self.num_trees)


def write_samples(
    folder: Path, batch: RolloutBatch, decode: Callable[[Sequence[int]], str], num_trees: int
) -> None:
    """Write the first trees of a batch, with rewards and advantages per leaf."""
    folder.mkdir(parents=True, exist_ok=True)
    trees = batch.trees[:num_trees]
    texts, first = [], 0
    for tree in trees:
        leaves = slice(first, first + len(tree.leaves))
        texts.append(
            tree_text(
                tree, decode, scores=batch.rewards[leaves], advantages=batch.advantages[leaves]
            )
        )
        first += len(tree.leaves)
    name = folder / f"step_{batch.step:06d}"
    name.with_suffix(".txt").write_text("\n\n".join(texts) + "\n")
    with name.with_suffix(".jsonl").open("w") as file:
        write_jsonl(trees, file)
