"""Which model types the engine can run; answers from the configuration alone, without torch.

The engine stores keys and values itself and replaces the attention function of a transformers model.
That works where all state of the model lives in attention over full or sliding windows, and where
the model looks its attention function up in the `AttentionInterface`.
"""

from __future__ import annotations

from typing import Any

SUPPORTED_LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})

TESTED_TYPES = "llama, mistral, qwen2, qwen3, gemma2, gpt2, gpt_neox, phi3, mixtral, olmo2, gpt_oss"

_NO_INTERFACE = frozenset({"gptj", "codegen", "bloom", "falcon", "mpt", "gpt_neo", "ctrl"})
_CHUNKED = frozenset({"llama4", "llama4_text"})
_RECURRENT = frozenset(
    {
        "bamba",
        "falcon_h1",
        "falcon_mamba",
        "granitemoehybrid",
        "jamba",
        "lfm2_moe",
        "mamba",
        "mamba2",
    }
    | {"minimax", "nemotron_h", "qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "rwkv", "xlstm"}
    | {"recurrent_gemma", "zamba", "zamba2"}
)


class UnsupportedModelError(ValueError):
    """The engine cannot run this model; the message names the type, the reason and what works."""

    def __init__(self, model_type: str, reason: str) -> None:
        super().__init__(
            f"the engine cannot run model type {model_type!r}: {reason}; it runs decoder-only models "
            f"with full or sliding attention that use transformers' AttentionInterface ({TESTED_TYPES})"
        )


def check_supported(config: Any) -> None:  # any transformers config; this module must not import it
    """Refuse model types that are known not to work, from a transformers configuration.

    A model that passes is still compared with its own plain forward when the engine first runs it.

    Raises:
        UnsupportedModelError: The type, or one of its `layer_types`, does not work.
    """
    for part in (config, getattr(config, "text_config", None)):
        if part is not None:
            reason = _reason(part)
            if reason is not None:
                raise UnsupportedModelError(str(getattr(part, "model_type", "unknown")), reason)


def _reason(config: Any) -> str | None:  # see check_supported
    model_type = getattr(config, "model_type", None)
    if getattr(config, "is_encoder_decoder", False):
        return "it is an encoder-decoder model"
    if model_type in _NO_INTERFACE:
        return "it does not use transformers' AttentionInterface"
    if model_type in _CHUNKED:
        return "it has chunked attention layers"
    if model_type in _RECURRENT:
        return "it has recurrent layers, whose state cannot be shared between branches"
    others = set(getattr(config, "layer_types", None) or ()) - SUPPORTED_LAYER_TYPES
    return f"it has layers of type {', '.join(sorted(others))}" if others else None
