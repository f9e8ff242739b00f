from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, TrainerCallback
from trl import GRPOTrainer

from rollout.config import RolloutConfig
from tests.tiny_policy import TREE, logged, tiny_model, tiny_trainer
from tests.toy_rewards import PartlyUnusable
from trainers.policy_trainer import PolicyTrainer

# dcpo.md's table of the clipped loss: q, p, A, loss, dloss/dlogp at epsilon 0.16, 0.20, cap 10
DAC_TABLE = [
    (0.01, 0.03, 1.0, -3.0, -3.0),
    (0.01, 0.06, 1.0, -5.0, 0.0),
    (0.001, 0.02, 1.0, -10.0, 0.0),
    (0.1, 0.06, -1.0, 0.6, 0.6),
    (0.1, 0.04, -1.0, 0.5, 0.0),
    (0.5, 0.7, 1.0, -1.306226, 0.0),
    (0.9, 0.7, -1.0, 0.777778, 0.777778),
    (0.9, 0.68, -1.0, 0.768742, 0.0),
    (0.9, 0.99, 1.0, -1.1, -1.1),
    (0.001, 0.02, -1.0, 10.0, 0.0),
]


def rows_of(q: float, p: float, advantage: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """One row with one response token: its current log-prob (with gradient) and TRL's inputs."""
    logprob = torch.tensor([[p]]).log().requires_grad_()
    one = torch.ones(1, 1, dtype=torch.long)
    inputs = {
        "prompt_ids": one,
        "prompt_mask": one,
        "completion_ids": one,
        "completion_mask": one,
        "advantages": torch.tensor([advantage]),
        "old_per_token_logps": torch.tensor([[q]]).log(),
        "num_items_in_batch": torch.tensor(1.0),
    }
    return logprob, inputs


def prepared(tmp_path: Path, **settings: Any) -> PolicyTrainer:  # fields of PolicyConfig
    trainer = tiny_trainer(tmp_path, epsilon=0.16, epsilon_high=0.20, **settings)
    trainer.current_gradient_accumulation_steps = 1
    return trainer


@pytest.mark.parametrize(("q", "p", "advantage", "loss", "gradient"), DAC_TABLE)
def test_dac_table_through_the_trainers_loss(
    tmp_path: Path, q: float, p: float, advantage: float, loss: float, gradient: float
) -> None:
    trainer = prepared(tmp_path, aggregation="sequence_mean")
    logprob, inputs = rows_of(q, p, advantage)
    with mock.patch.object(
        PolicyTrainer,
        "_get_per_token_logps_and_entropies",
        return_value=(logprob, torch.zeros(1, 1), None),
    ):
        value = trainer._compute_loss(trainer.model, inputs)
    value.backward()
    assert value.item() == pytest.approx(loss, abs=2e-5)
    assert logprob.grad is not None
    assert logprob.grad.item() == pytest.approx(gradient, abs=2e-5)


@pytest.mark.parametrize(("q", "p", "advantage", "loss", "gradient"), DAC_TABLE)
def test_trl_with_tensor_bounds_gives_the_same_loss(
    tmp_path: Path, q: float, p: float, advantage: float, loss: float, gradient: float
) -> None:
    """TRL's own loss with epsilon attributes set to tensors is an independent oracle."""
    trainer = prepared(tmp_path)
    logprob, inputs = rows_of(q, p, advantage)
    root_low = max(1 - 4 * 0.16 / q, 0.0) ** 0.5
    bounds: Any = trainer  # TRL types the attributes as numbers; tensors broadcast
    bounds.epsilon_low = torch.tensor([[0.5 - 0.5 * root_low]])
    bounds.epsilon_high = torch.tensor([[min(0.5 + 0.5 * (1 + 0.8 / q) ** 0.5, 10.0) - 1.0]])
    trainer.args.delta = 10.0
    trainer.loss_type = "grpo"
    with mock.patch.object(
        PolicyTrainer,
        "_get_per_token_logps_and_entropies",
        return_value=(logprob, torch.zeros(1, 1), None),
    ):
        value = GRPOTrainer._compute_loss(trainer, trainer.model, inputs)
    value.backward()
    assert value.item() == pytest.approx(loss, abs=2e-5)
    assert logprob.grad is not None
    assert logprob.grad.item() == pytest.approx(gradient, abs=2e-5)


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("token_mean", 0.216667), ("sequence_mean", 0.375), ("otm", 0.75), ("constant", 0.052897)],
)
@pytest.mark.parametrize("micro_batches", [1, 2, 4])
def test_aggregations_do_not_depend_on_micro_batching(
    tmp_path: Path, aggregation: str, expected: float, micro_batches: int
) -> None:
    """The four rows of dcpo.md section 4: lengths 500, 1500, 800, 200, advantages 1, .5, -1, 1."""
    rollout = RolloutConfig(width=2, segment_length=512, max_segments=6)
    trainer = tiny_trainer(
        tmp_path,
        rollout=rollout,
        aggregation=aggregation,
        per_device_train_batch_size=4 // micro_batches,
        gradient_accumulation_steps=micro_batches,
        steps_per_generation=micro_batches,
    )
    trainer.current_gradient_accumulation_steps = micro_batches
    lengths, advantages = (500, 1500, 800, 200), (1.0, 0.5, -1.0, 1.0)
    mask = torch.arange(1500)[None, :] < torch.tensor(lengths)[:, None]
    size = 4 // micro_batches
    total = torch.zeros(())
    for start in range(0, 4, size):
        rows = slice(start, start + size)
        logprobs = torch.full((size, 1500), -1.0)
        inputs = {
            "prompt_ids": torch.ones(size, 1, dtype=torch.long),
            "prompt_mask": torch.ones(size, 1, dtype=torch.long),
            "completion_ids": torch.ones(size, 1500, dtype=torch.long),
            "completion_mask": mask[rows].long(),
            "advantages": torch.tensor(advantages)[rows],
            "old_per_token_logps": logprobs,
            "num_items_in_batch": torch.tensor(3000.0),
        }
        with mock.patch.object(
            PolicyTrainer,
            "_get_per_token_logps_and_entropies",
            return_value=(logprobs, torch.zeros(size, 1500), None),
        ):
            total += trainer._compute_loss(trainer.model, inputs)
    assert total.item() == pytest.approx(-expected, abs=2e-6)


def test_nan_in_padding_does_not_reach_the_loss(tmp_path: Path) -> None:
    trainer = prepared(tmp_path, aggregation="token_mean")
    logprobs = torch.tensor([[-1.0, float("nan")]], requires_grad=True)
    ones = torch.ones(1, 1, dtype=torch.long)
    inputs = {
        "prompt_ids": ones,
        "prompt_mask": ones,
        "completion_ids": torch.ones(1, 2, dtype=torch.long),
        "completion_mask": torch.tensor([[1, 0]]),
        "advantages": torch.tensor([1.0]),
        "old_per_token_logps": torch.tensor([[-1.0, float("nan")]]),
        "num_items_in_batch": torch.tensor(2.0),
    }
    with mock.patch.object(
        PolicyTrainer,
        "_get_per_token_logps_and_entropies",
        return_value=(logprobs, torch.zeros(1, 2), None),
    ):
        loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    assert torch.isfinite(loss)
    assert logprobs.grad is not None
    assert torch.isfinite(logprobs.grad).all()


def test_engine_and_trainer_agree_on_log_probs_at_every_rollout(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, max_steps=6)
    trainer.train()
    mismatches = logged(trainer, "policy/engine_mismatch_max")
    assert len(mismatches) == 3
    assert max(mismatches) < 1e-5


def test_engine_and_trainer_agree_with_fallback(tmp_path: Path) -> None:
    rollout = dataclasses.replace(TREE, width=8, segment_length=2, max_segments=6)
    trainer = tiny_trainer(tmp_path, rollout=rollout, model=tiny_model(eos_bias=6.0), max_steps=4)
    trainer.train()
    assert min(logged(trainer, "rollout/fallback_prompt_frac")) > 0
    assert max(logged(trainer, "policy/engine_mismatch_max")) < 1e-5


def test_responses_that_end_at_once_still_train(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, model=tiny_model(eos_bias=60.0), max_steps=2)
    trainer.train()
    assert min(logged(trainer, "completions/min_length")) == 1


def test_first_update_of_a_rollout_is_not_clipped_and_later_ones_move(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, max_steps=2, learning_rate=1e-2)
    trainer.train()
    ratios = logged(trainer, "policy/ratio_max")
    assert ratios[0] == pytest.approx(1.0, abs=1e-5)
    assert ratios[1] > 1.01


def test_group_advantages_are_those_of_trl(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, advantage="group", max_steps=1)
    trainer.train()
    batch = trainer.newest_rollout
    assert batch is not None
    rewards = torch.tensor(batch.rewards).view(-1, 4)
    expected = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
    assert torch.allclose(torch.tensor(batch.advantages), expected.flatten(), atol=1e-6)


def test_the_store_sees_each_prompt_once_per_rollout(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, max_steps=8)
    trainer.train()
    visits = [trainer.prompt_store.get(f"sum-{i}").visits for i in range(8)]
    assert visits == [2] * 8


def test_unscorable_prompts_get_no_advantage_and_no_visit(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, reward=PartlyUnusable(), max_steps=4)
    trainer.train()
    assert trainer.prompt_store.get("sum-0").visits == 0
    assert trainer.prompt_store.get("sum-2").visits == 1
    assert all(torch.isfinite(torch.tensor(logged(trainer, "loss"))))


def test_lora_dropout_is_off_while_sampling(tmp_path: Path) -> None:
    lora = LoraConfig(r=4, lora_dropout=0.5, target_modules="all-linear", init_lora_weights=False)
    trainer = tiny_trainer(tmp_path, lora=lora, max_steps=1)
    trainer.train()
    batch = trainer.newest_rollout
    assert batch is not None
    model = trainer.accelerator.unwrap_model(trainer.model)
    assert model.training
    trajectory = batch.trees[0].trajectories()[0]
    again = tiny_trainer(tmp_path / "b", lora=lora, max_steps=1)
    again.train()
    assert again.newest_rollout is not None
    assert again.newest_rollout.trees[0].trajectories()[0].logprobs == trajectory.logprobs


def test_beta_adds_the_kl_to_the_reference(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path / "policy")  # TRL loads the reference from this folder
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "policy")
    trainer = tiny_trainer(tmp_path, model=model, beta=0.1, max_steps=4, learning_rate=1e-2)
    trainer.train()
    kl = logged(trainer, "policy/kl")
    assert kl[0] == pytest.approx(0.0, abs=1e-6)
    assert kl[-1] > 0


@pytest.mark.parametrize("clip", ["fixed", "gspo", "cispo"])
def test_the_other_clip_rules_train(tmp_path: Path, clip: str) -> None:
    high = 5.0 if clip == "cispo" else 0.2
    trainer = tiny_trainer(
        tmp_path, clip=clip, advantage="group", aggregation="token_mean", epsilon_high=high
    )
    trainer.train()
    assert all(torch.isfinite(torch.tensor(logged(trainer, "loss"))))


class EvaluateEachStep(TrainerCallback):
    """Logs held-out figures at the end of every step."""

    def __init__(self, trainer: PolicyTrainer) -> None:
        self.trainer = trainer

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:  # Trainer's signature
        """Log something as the held-out evaluation does."""
        self.trainer.log_evaluation({"eval/avg_at_1": 0.5})


def test_an_evaluation_does_not_swallow_the_training_row_of_its_step(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, max_steps=3)
    trainer.add_callback(EvaluateEachStep(trainer))
    trainer.train()
    assert len(logged(trainer, "loss")) == 3
    assert logged(trainer, "eval_avg_at_1") == [0.5] * 3
