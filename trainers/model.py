"""Loading a policy: a local folder or a hub id, checked before any weight is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from peft import LoraConfig
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from inference.runner import check_supported

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(slots=True, kw_only=True)
class LoraSection:
    """LoRA adapters instead of full fine-tuning (PEFT's names)."""

    r: int = 16
    """Rank."""
    lora_alpha: int = 32
    """Scale; the adapter is multiplied by lora_alpha / r."""
    lora_dropout: float = 0.0
    """Dropout while training; off while sampling."""
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    """Which linear layers get adapters."""

    def to_peft(self) -> LoraConfig:
        """The PEFT configuration."""
        return LoraConfig(
            r=self.r,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            target_modules=self.target_modules,
            task_type="CAUSAL_LM",
        )


@dataclass(slots=True, kw_only=True)
class ModelConfig:
    """Section `model` of a recipe."""

    path: str
    """Checkpoint folder or hub id. `./` and `../` are relative to the recipe file."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the weights; mixed precision is trainer.bf16."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    attn_implementation: str | None = None
    """Attention of the training forward (sdpa, eager, flash_attention_2); null = transformers' choice."""
    trust_remote_code: bool = False
    """Run code that comes with the checkpoint."""
    lora: LoraSection | None = None
    """LoRA adapters; null = full fine-tuning."""


def check_model(config: ModelConfig) -> PretrainedConfig:
    """Read only the model's configuration and refuse what the engine cannot run.

    Raises:
        ValueError: the folder is missing or is no checkpoint, or the model type is not supported.
    """
    folder = Path(config.path)
    if config.path.startswith((".", "/", "~")) or folder.exists():
        if not folder.is_dir():
            raise ValueError(f"model.path={config.path}: no such folder")
        if not (folder / "config.json").is_file():
            raise ValueError(f"model.path={config.path}: no config.json, so this is no checkpoint")
    try:
        model_config = AutoConfig.from_pretrained(
            config.path, revision=config.revision, trust_remote_code=config.trust_remote_code
        )
    except (OSError, KeyError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise ValueError(f"model.path={config.path} cannot be read: {first_line}") from error
    check_supported(model_config)
    return model_config


def check_length(
    model_config: PretrainedConfig, *, prompt_tokens: int, response_tokens: int
) -> None:
    """Refuse responses that would run past the model's positions.

    Raises:
        ValueError: names the three numbers.
    """
    limit = getattr(model_config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and prompt_tokens + response_tokens > limit:
        raise ValueError(
            f"the longest prompt ({prompt_tokens} tokens) and rollout's response limit "
            f"({response_tokens}) exceed the model's {limit} positions; lower rollout.max_segments, "
            "rollout.segment_length or data.max_prompt_tokens"
        )


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer, padding on the left as training rows want it; pad defaults to eos."""
    tokenizer = AutoTokenizer.from_pretrained(
        config.path,
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
        padding_side="left",
        truncation_side="left",
    )
    if tokenizer.eos_token_id is None:
        raise ValueError(f"model.path={config.path}: the tokenizer has no eos token")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(config: ModelConfig) -> PreTrainedModel:
    """The causal language model on CPU in the wanted dtype; the trainer moves it."""
    return AutoModelForCausalLM.from_pretrained(
        config.path,
        revision=config.revision,
        dtype=DTYPES[config.dtype],
        attn_implementation=config.attn_implementation,
        trust_remote_code=config.trust_remote_code,
    )
