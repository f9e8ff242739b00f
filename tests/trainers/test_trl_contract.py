"""What the adapter relies on in TRL 1.16; an upgrade that changes it fails here by name."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from transformers import Trainer
from trl import GRPOTrainer

from tests.tiny_policy import sums_dataset, tiny_trainer

SIGNATURES = {
    "_get_train_sampler": ["self", "dataset"],
    "_prepare_inputs": ["self", "generation_batch"],
    "_generate_and_score_completions": ["self", "inputs"],
    "_generate": ["self", "prompts"],
    "_tokenize_prompts": ["self", "prompts"],
    "_calculate_rewards": ["self", "inputs", "prompts", "completions", "completion_ids_list"],
    "_compute_loss": ["self", "model", "inputs"],
    "_save_checkpoint": ["self", "model", "trial"],
    "_load_optimizer_and_scheduler": ["self", "checkpoint"],
    "_get_output_dir": ["self", "trial"],
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature_of_an_overridden_method(name: str) -> None:
    assert list(inspect.signature(getattr(GRPOTrainer, name)).parameters) == SIGNATURES[name]


def test_log_prob_method_takes_what_the_loss_passes_and_returns_three_values(
    tmp_path: Path,
) -> None:
    trainer = tiny_trainer(tmp_path)
    ids = torch.ones(1, 3, dtype=torch.long)
    logprobs, entropies, auxiliary = trainer._get_per_token_logps_and_entropies(
        trainer.model, ids, ids, 2, compute_entropy=True
    )
    assert logprobs.shape == entropies.shape == (1, 2)
    assert auxiliary is None


def test_keys_of_a_scored_rollout_batch(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path)
    rows = [dict(sums_dataset()[i]) for i in (0, 1) for _ in range(4)]
    assert trainer.model is not None
    trainer.model.train()
    output = trainer._generate_and_score_completions(rows)
    assert next(iter(output)) == "prompt_ids"  # TRL's shuffle reads the batch size off the first
    assert set(output) == {
        "prompt_ids",
        "prompt_mask",
        "completion_ids",
        "completion_mask",
        "advantages",
        "num_items_in_batch",
        "old_per_token_logps",
        "sampling_per_token_logps",
    }
    assert output["advantages"].shape == (8,)


def test_the_trainer_does_not_divide_our_loss_by_the_accumulation_steps(tmp_path: Path) -> None:
    assert tiny_trainer(tmp_path).loss_is_scaled_for_ga


def test_the_checkpoint_folder_is_made_below_the_output_dir_method() -> None:
    source = inspect.getsource(Trainer._save_checkpoint)
    assert "self._get_output_dir(trial=trial)" in source


def test_an_update_counter_named_step_exists(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path)
    assert trainer._step == 0
    assert trainer._buffered_inputs is None
