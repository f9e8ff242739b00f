"""Random models and machine figures for the rollout bench."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SHAPES: dict[str, dict[str, Any]] = {  # keyword arguments of the configuration
    "5M": {
        "num_hidden_layers": 6,
        "hidden_size": 256,
        "num_attention_heads": 4,
        "intermediate_size": 768,
        "vocab_size": 4096,
    },
    "50M": {
        "num_hidden_layers": 12,
        "hidden_size": 512,
        "num_attention_heads": 8,
        "intermediate_size": 1408,
        "vocab_size": 32000,
    },
    "150M": {
        "num_hidden_layers": 12,
        "hidden_size": 896,
        "num_attention_heads": 14,
        "intermediate_size": 2816,
        "vocab_size": 32000,
    },
}


def build_model(size: str, dtype: torch.dtype) -> Qwen2ForCausalLM:
    """Return a random Qwen2 model with two kv heads of width 64."""
    torch.manual_seed(0)
    config = Qwen2Config(
        num_key_value_heads=2,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        eos_token_id=None,
        pad_token_id=0,
        **SHAPES[size],
    )
    model = Qwen2ForCausalLM(config).eval()
    return model.to(dtype)


def kv_bytes_per_token(model: Qwen2ForCausalLM) -> int:
    """Return 2 * layers * kv heads * head width * item size."""
    layer = model.model.layers[0].self_attn
    values = layer.k_proj.out_features + layer.v_proj.out_features
    return int(model.config.num_hidden_layers * values * model.dtype.itemsize)


def matmul_weights(model: Qwen2ForCausalLM) -> int:
    """Return the number of weights that are multiplied with every token that gets logits."""
    return sum(
        m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear)
    )  # the tied embedding is the head, so it is counted once


def machine_peaks(dtype: torch.dtype) -> dict[str, float]:
    """Return the measured speed of a large matrix product (FLOP/s) and of reading memory (bytes/s)."""
    left, right = torch.randn(1024, 1024).to(dtype), torch.randn(1024, 1024).to(dtype)
    large = torch.zeros(64 * 2**20, dtype=torch.float32)
    return {
        "flops_per_s": 2 * 1024**3 / _fastest(lambda: left @ right),
        "read_bytes_per_s": large.nbytes / _fastest(lambda: large.sum()),
    }


def ideal_seconds(
    model: Qwen2ForCausalLM, peaks: dict[str, float], prompt: int, widths: list[int], segment: int
) -> float:
    """Return the roofline of a rollout: per forward the larger of compute and memory time.

    A forward multiplies all its tokens with the linear weights (the head only for tokens that draw),
    attends over the keys of each token, and reads weights and distinct KV once. Prefill is the first
    forward; then each level of `widths` decodes `segment` tokens.
    """
    c = model.config
    head = c.vocab_size * c.hidden_size
    body = matmul_weights(model) - head
    attention = 4 * c.hidden_size * c.num_hidden_layers
    weights_bytes, kv = (body + head) * model.dtype.itemsize, kv_bytes_per_token(model)

    def forward(tokens: int, keys: float, stored: int, drawn: int) -> float:
        flops = 2 * tokens * body + 2 * drawn * head + attention * keys
        moved = weights_bytes + stored * kv
        return max(flops / peaks["flops_per_s"], moved / peaks["read_bytes_per_s"])

    total, stored = forward(prompt, prompt * prompt / 2, prompt, 1), prompt
    for level, width in enumerate(widths):
        for step in range(segment if level else segment - 1):
            length = prompt + level * segment + step + 1
            stored += width
            total += forward(width, width * length, stored, width)
    return total


def _fastest(call: Callable[[], object], repeats: int = 5) -> float:
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(statistics.median(times[1:]), *times[1:])
