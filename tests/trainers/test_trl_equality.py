"""The same rollouts through TRL's own GRPOTrainer: losses, gradient norms and parameters agree.

Our trainer runs first and its rows are recorded; TRL's trainer then gets these rows through its
rollout function and trains an equal copy of the model with its own advantages, clip rules,
aggregations and optimizer loop. Nothing is shared but the log-prob forward.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from transformers.trainer_callback import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from rollout.config import RolloutConfig
from tests.tiny_policy import logged, sums_dataset, tiny_model, tiny_trainer
from trainers.policy_trainer import PolicyTrainer
from trainers.rollout_phase import columns, leaf_rows
from trainers.tasks.char_tokenizer import char_tokenizer

STEPS = 5
FLAT = RolloutConfig(width=4, segment_length=4, max_segments=3, branching=1)
TREE = dataclasses.replace(FLAT, branching=2)
LOOP: dict[str, Any] = {
    "per_device_train_batch_size": 8,
    "steps_per_generation": 4,
    "gradient_accumulation_steps": 2,
    "num_iterations": 2,
    "max_steps": STEPS,
    "learning_rate": 3e-3,
    "lr_scheduler_type": "constant",
    "beta": 0.0,
    "logging_steps": 1,
    "gradient_checkpointing": False,
    "save_strategy": "no",
}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # ours, TRL's
    "grpo": (
        {"clip": "fixed", "aggregation": "sequence_mean", "epsilon": 0.2, "ratio_cap": None},
        {"loss_type": "grpo", "epsilon": 0.2},
    ),
    "dapo": (
        {"aggregation": "token_mean", "epsilon": 0.2, "epsilon_high": 0.28, "clip": "fixed"},
        {"loss_type": "dapo", "epsilon": 0.2, "epsilon_high": 0.28, "delta": 10.0},
    ),
    "dr_grpo": (
        {
            "clip": "fixed",
            "aggregation": "constant",
            "epsilon": 0.2,
            "ratio_cap": None,
            "scale_rewards": "none",
        },
        {"loss_type": "dr_grpo", "epsilon": 0.2, "scale_rewards": "none"},
    ),
    "cispo": (
        {"clip": "cispo", "aggregation": "token_mean", "epsilon_high": 1.02},
        {"loss_type": "cispo", "epsilon_high": 1.02},
    ),
    "gspo": (
        {
            "clip": "gspo",
            "aggregation": "sequence_mean",
            "epsilon": 3e-4,
            "epsilon_high": 4e-4,
            "ratio_cap": None,
        },
        {
            "loss_type": "grpo",
            "importance_sampling_level": "sequence",
            "epsilon": 3e-4,
            "epsilon_high": 4e-4,
        },
    ),
}


@pytest.fixture(autouse=True)
def rows_stay_in_order() -> Iterator[None]:
    """TRL shuffles the rows of a rollout batch from the global random state."""
    with mock.patch("trl.trainer.grpo_trainer.shuffle_sequence_dict", lambda rows: rows):
        yield


def ours(folder: Path, rollout: RolloutConfig, **settings: Any) -> tuple[PolicyTrainer, list[Any]]:
    """A trained trainer and its rollouts: columns for TRL and rewards."""
    trainer = tiny_trainer(folder, rollout=rollout, advantage="group", **{**LOOP, **settings})
    recorded: list[Any] = []
    generate = trainer._generate_and_score_completions

    def record(rows: list[dict[str, Any]]) -> dict[str, Any]:
        output = generate(rows)
        batch = trainer.newest_rollout
        assert batch is not None
        recorded.append({**columns(leaf_rows(batch.trees)), "known": batch.rewards})
        return output

    with mock.patch.object(trainer, "_generate_and_score_completions", record):
        trainer.train()
    return trainer, recorded


def theirs(folder: Path, recorded: list[Any], **settings: Any) -> GRPOTrainer:
    """TRL's trainer on the recorded rows."""
    batches = iter(recorded)

    def replay(prompts: list[Any], trainer: GRPOTrainer) -> dict[str, list[Any]]:
        return dict(next(batches))

    def known_reward(*, known: list[float | None], **_: Any) -> list[float | None]:
        return known

    trainer = GRPOTrainer(
        model=tiny_model(),
        reward_funcs=known_reward,
        args=GRPOConfig(
            output_dir=str(folder),
            use_cpu=True,
            bf16=False,
            report_to="none",
            disable_tqdm=True,
            num_generations=FLAT.width,
            max_completion_length=FLAT.response_limit,
            temperature=1.0,
            **{**LOOP, **settings},
        ),
        train_dataset=sums_dataset(),
        processing_class=char_tokenizer(),
        rollout_func=replay,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer


def parameters(trainer: GRPOTrainer) -> torch.Tensor:
    assert trainer.model is not None
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


@pytest.mark.parametrize("rollout", [FLAT, TREE], ids=["flat", "tree"])
@pytest.mark.parametrize("name", CASES)
def test_training_equals_trls(tmp_path: Path, name: str, rollout: RolloutConfig) -> None:
    our_settings, their_settings = CASES[name]
    own, recorded = ours(tmp_path / "ours", rollout, **our_settings)
    reference = theirs(tmp_path / "trl", recorded, **their_settings)
    for key in ("loss", "grad_norm"):
        values = [row[key] for row in reference.state.log_history if key in row]
        assert len(values) == STEPS
        assert logged(own, key) == pytest.approx(values, abs=1e-5, rel=1e-5), key
    assert torch.allclose(parameters(own), parameters(reference), atol=1e-5)
    moved = parameters(reference) - torch.cat([p.flatten() for p in tiny_model().parameters()])
    assert moved.abs().max() > 1e-2  # so that the comparison above can fail
    assert max(logged(own, "policy/ratio_max")) > 1.01


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("grpo", {"epsilon": 0.02}), ("dapo", {"aggregation": "sequence_mean"})],
)
def test_another_algorithm_would_be_noticed(
    tmp_path: Path, name: str, wrong: dict[str, Any]
) -> None:
    our_settings, their_settings = CASES[name]
    own, recorded = ours(tmp_path / "ours", FLAT, **{**our_settings, **wrong})
    reference = theirs(tmp_path / "trl", recorded, **their_settings)
    assert not torch.allclose(parameters(own), parameters(reference), atol=1e-4)
