"""A tiny random Llama with the character tokenizer, and a PolicyTrainer around it, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.trainer_callback import PrinterCallback

from inference.engine import EngineConfig
from rollout.config import RolloutConfig
from tests.toy_rewards import CountDigits
from trainers.policy_config import PolicyConfig
from trainers.policy_trainer import PolicyTrainer
from trainers.reward_function import RewardFunction
from trainers.tasks.char_tokenizer import char_tokenizer

TREE = RolloutConfig(width=4, segment_length=4, max_segments=3)


def tiny_model(seed: int = 0, *, hidden: int = 32, eos_bias: float = 0.0) -> PreTrainedModel:
    """A random two-layer Llama; `eos_bias` scales the eos row so that responses end early."""
    tokenizer = char_tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        initializer_range=0.2,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[tokenizer.eos_token_id] *= eos_bias if eos_bias else 1.0
    return model


def sums_dataset(num: int = 8) -> Dataset:
    """Rows with prompt, prompt_id and answer."""
    return Dataset.from_list(
        [
            {"prompt": f"{i:02d}+11=", "prompt_id": f"sum-{i}", "answer": str(i + 11)}
            for i in range(num)
        ]
    )


def tiny_trainer(
    output_dir: Path,
    *,
    rollout: RolloutConfig = TREE,
    model: PreTrainedModel | None = None,
    reward: Any = None,  # any Reward
    num_prompts: int = 8,
    lora: LoraConfig | None = None,
    **settings: Any,  # fields of PolicyConfig
) -> PolicyTrainer:
    """16 rows a rollout batch, two updates each, unless `settings` say otherwise."""
    defaults: dict[str, Any] = {
        "per_device_train_batch_size": 8,
        "steps_per_generation": 2,
        "max_steps": 4,
        "logging_steps": 1,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "gradient_checkpointing": False,
        "save_strategy": "no",
    }
    args = PolicyConfig(
        output_dir=str(output_dir),
        use_cpu=True,
        bf16=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        num_generations=rollout.width,
        max_completion_length=rollout.response_limit,
        temperature=rollout.temperature,
        **{**defaults, **settings},
    )
    trainer = PolicyTrainer(
        model=model or tiny_model(),
        args=args,
        rewards=[RewardFunction(reward or CountDigits())],
        train_dataset=sums_dataset(num_prompts),
        processing_class=char_tokenizer(),
        rollout=rollout,
        inference=EngineConfig(),
        peft_config=lora,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def logged(trainer: PolicyTrainer, key: str) -> list[float]:
    """All logged values of a metric, oldest first."""
    return [row[key] for row in trainer.state.log_history if key in row]
