"""A small Llama with random weights for the embedded tasks."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

_ROPE_THETA = 200.0
"""Prompts are short: a small base makes the position of a term easy to find."""


@dataclass(slots=True, kw_only=True)
class ModelShape:
    """Size of the model; nested under `warmstart.model` of a recipe."""

    hidden_size: int = 64
    """Width."""
    num_layers: int = 2
    """Decoder layers."""
    num_heads: int = 4
    """Query heads; the width divided by it must be even (rotary embedding)."""
    num_kv_heads: int = 2
    """Key and value heads; divides `num_heads`."""
    intermediate_size: int = 256
    """Inner width of the feed-forward blocks."""
    max_positions: int = 256
    """Longest context in tokens."""

    def __post_init__(self) -> None:
        for name in ("num_layers", "num_heads", "num_kv_heads", "intermediate_size"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"model.{name}={value} must be at least 1")
        if self.hidden_size % (2 * self.num_heads) or self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"model.hidden_size={self.hidden_size}, num_heads={self.num_heads}, num_kv_heads="
                f"{self.num_kv_heads}: hidden_size must be a multiple of 2 * num_heads and "
                "num_heads of num_kv_heads; use 64, 4, 2"
            )
        if self.hidden_size < 1:
            raise ValueError(f"model.hidden_size={self.hidden_size} must be positive; use 64")


def tiny_llama(shape: ModelShape, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Builds the model from torch's random state; input and output embeddings are tied."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=shape.max_positions,
        rope_parameters={"rope_type": "default", "rope_theta": _ROPE_THETA},
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)
