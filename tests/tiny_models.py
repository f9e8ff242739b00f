"""Random transformers models of some 10^4 parameters, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

VOCABULARY = 61

_COMMON: dict[str, Any] = {  # keyword arguments of configuration classes
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_SPECIAL: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 5},
    "gemma2": {"sliding_window": 6, "attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 8},
    "qwen2": {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1},
    "gpt_oss": {
        "sliding_window": 6,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "num_key_value_heads": 4,
    },
    "gpt2": {"n_positions": 256},
    "phi3": {"num_key_value_heads": 1},
}


def tiny_model(model_type: str = "llama", *, seed: int = 0, **options: Any) -> PreTrainedModel:
    """Return a random float32 model in evaluation mode; weights are wide enough for varied logits."""
    torch.manual_seed(seed)
    settings = {**_COMMON, **_SPECIAL.get(model_type, {}), "initializer_range": 0.15, **options}
    config = CONFIG_MAPPING[model_type](**settings)
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


def plain_logprobs(model: torch.nn.Module, token_ids: Sequence[int]) -> torch.Tensor:
    """Return [T, V] float32 log-probs of the next token after each token, by a forward without cache."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([list(token_ids)]), use_cache=False).logits[0]
    return logits.float().log_softmax(-1)
