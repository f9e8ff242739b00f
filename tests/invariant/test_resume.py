"""A resumed run is the uninterrupted run: rewards, losses, parameters, store, order of prompts.

8 prompts, 4 a rollout batch, 2 updates each: an epoch has 4 updates. Checkpoints are taken inside a
rollout block (3, 7), at its end (6) and at the end of an epoch (4, 8).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.tiny_policy import logged, tiny_trainer
from trainers.policy_trainer import PolicyTrainer

STEPS = 12
KEYS = ("loss", "grad_norm", "reward", "completions/mean_length", "reward/mean_visits")


def parameters(trainer: PolicyTrainer) -> torch.Tensor:
    assert trainer.model is not None
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def start(folder: Path, *, save_steps: int = 1, max_steps: int = STEPS) -> PolicyTrainer:
    return tiny_trainer(
        folder, max_steps=max_steps, save_strategy="steps", save_steps=save_steps, seed=5
    )


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> PolicyTrainer:
    """The uninterrupted run, with a checkpoint after every step."""
    trainer = start(tmp_path_factory.mktemp("straight"))
    trainer.train()
    return trainer


@pytest.mark.parametrize("step", [3, 4, 6, 7, 8])
def test_resumed_run_equals_the_uninterrupted_one(
    straight: PolicyTrainer, tmp_path: Path, step: int
) -> None:
    checkpoint = Path(str(straight.args.output_dir)) / f"checkpoint-{step}"
    resumed = start(tmp_path, save_steps=100)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    for key in KEYS:
        assert logged(resumed, key) == logged(straight, key), key
    assert torch.equal(parameters(resumed), parameters(straight))
    assert resumed.prompt_store.checksum() == straight.prompt_store.checksum()


def test_rewards_differ_between_epochs_so_that_the_test_above_can_fail(
    straight: PolicyTrainer,
) -> None:
    rewards = logged(straight, "reward")
    assert len(set(rewards)) > 3


def test_a_checkpoint_without_its_store_is_not_resumed(
    straight: PolicyTrainer, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint-4"
    shutil.copytree(Path(str(straight.args.output_dir)) / "checkpoint-4", checkpoint)
    (checkpoint / "prompt_store.json").unlink()
    with pytest.raises(ValueError, match="cannot read prompt store"):
        start(tmp_path / "out").train(resume_from_checkpoint=str(checkpoint))


def test_gradient_accumulation_does_not_change_the_updates(tmp_path: Path) -> None:
    """16 rows an update in one, two and four micro-batches; equal up to float32 summation order."""
    curves = []
    for parts in (1, 2, 4):
        trainer = tiny_trainer(
            tmp_path / str(parts),
            max_steps=3,
            learning_rate=1e-4,
            per_device_train_batch_size=16 // parts,
            gradient_accumulation_steps=parts,
            steps_per_generation=parts,
            num_iterations=2,
            shuffle_dataset=False,
        )
        trainer.train()
        curves.append(torch.tensor(logged(trainer, "loss")))
    assert torch.allclose(curves[0], curves[1], atol=1e-5)
    assert torch.allclose(curves[0], curves[2], atol=1e-5)
