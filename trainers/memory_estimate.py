"""What a run will need, from the configuration alone: shown by --dry_run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Bytes per process without ZeRO; activations are left out (they depend on the kernel)."""

    num_parameters: int
    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    """AdamW: two float32 moments per trainable weight."""
    kv_bytes: int
    """KV of the rollout batch if every tree reached its largest size at once."""
    logits_bytes: int
    """float32 logits of one training micro-batch's responses."""

    def lines(self) -> list[str]:
        """One line per part, in MiB."""
        parts = {
            "weights": self.weights_bytes,
            "gradients": self.gradients_bytes,
            "optimizer": self.optimizer_bytes,
            "KV, at most": self.kv_bytes,
            "logits": self.logits_bytes,
        }
        total = sum(parts.values())
        return [
            f"parameters   {self.num_parameters:,}",
            *(f"{name:<12} {value / MIB:,.1f} MiB" for name, value in parts.items()),
            f"{'sum':<12} {total / MIB:,.1f} MiB per process, before ZeRO and without activations",
        ]


def estimate_memory(
    config: PretrainedConfig,
    *,
    dtype: torch.dtype,
    kv_tokens: int,
    rows_per_micro_batch: int,
    response_tokens: int,
) -> MemoryEstimate:
    """Estimate from a model configuration; no weight is allocated.

    Args:
        config: The model's configuration.
        dtype: Dtype of the weights.
        kv_tokens: Distinct tokens stored at once, at most.
        rows_per_micro_batch: per_device_train_batch_size.
        response_tokens: Longest response.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    count = sum(p.numel() for p in model.parameters())
    text = config.get_text_config()
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    kv_heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    return MemoryEstimate(
        num_parameters=count,
        weights_bytes=count * dtype.itemsize,
        gradients_bytes=count * dtype.itemsize,
        optimizer_bytes=count * 8,
        kv_bytes=2 * text.num_hidden_layers * kv_heads * head_dim * dtype.itemsize * kv_tokens,
        logits_bytes=4 * rows_per_micro_batch * response_tokens * text.vocab_size,
    )
