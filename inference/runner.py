"""ModelRunner: forwards of a transformers model over our own KV store.

This module and probe.py are the only ones that know about internals of transformers:

* Models look up their attention function by the name in `config._attn_implementation`, on each call of
  each layer. We register one name per process; which store and which plan it uses comes from a
  context variable, because some models swallow extra keyword arguments.
* No mask function is registered under that name, so the library builds no mask.
* Without a cache object a layer hands us only the new keys and values, after rotary embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface

from inference.attention import AttentionSettings, attend
from inference.kv.pool import FullKV
from inference.step_plan import StepPlan
from inference.supported import UnsupportedModelError, check_supported

ATTENTION_NAME = "ramify_tree"
_CHECKPOINTING = "gradient_checkpointing"


@dataclass(slots=True)
class StepContext:
    """What the attention function needs to know about the forward it is called in."""

    plan: StepPlan
    kv: FullKV
    layers_called: set[int] = field(default_factory=set)


_CONTEXT: ContextVar[StepContext | None] = ContextVar("ramify_step", default=None)


class ModelRunner:
    """A causal LM whose attention reads and writes our KV store."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self.configs = attention_configs(model)
        if not self.configs:
            raise UnsupportedModelError(type(model).__name__, "it is no transformers model")
        for config in self.configs:
            check_supported(config)
        AttentionInterface.register(ATTENTION_NAME, tree_attention)

    @property
    def device(self) -> torch.device:
        """Where inputs go: the device of the first parameter."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the first floating parameter."""
        return next(p.dtype for p in self.model.parameters() if p.is_floating_point())

    @property
    def model_type(self) -> str:
        """Type name of the model, for messages."""
        return str(getattr(self.configs[0], "model_type", "unknown"))

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids that the model accepts."""
        return int(self._text_config().vocab_size)

    @property
    def max_positions(self) -> int | None:
        """Longest sequence that the configuration allows; None if it does not say."""
        return getattr(self._text_config(), "max_position_embeddings", None)

    def check_ids(self, token_ids: Sequence[int]) -> None:
        """Refuse ids outside the vocabulary.

        Raises:
            ValueError: There are some.
        """
        limit = self.vocabulary_size
        if token_ids and not 0 <= min(token_ids) <= max(token_ids) < limit:
            raise ValueError(
                f"token ids {min(token_ids)}..{max(token_ids)} leave the vocabulary 0..{limit - 1}; "
                "does the tokenizer belong to this model?"
            )

    def check_length(self, length: int) -> None:
        """Refuse sequences longer than the configuration allows.

        Raises:
            ValueError: `length` tokens are too many.
        """
        limit = self.max_positions
        if limit is not None and length > limit:
            raise ValueError(
                f"path and new tokens together are {length} tokens, the model has "
                f"max_position_embeddings={limit}; ask for fewer tokens"
            )

    @property
    def num_layers(self) -> int:
        """Number of attention layers."""
        return int(self._text_config().num_hidden_layers)

    def logits(self, context: StepContext) -> torch.Tensor:
        """Run one packed forward and return the logits [U, V] of `plan.logit_rows`.

        Must run inside `rollout_mode`.

        Side effects:
            Writes keys and values of all packed tokens into the store of `context`.
        """
        plan = context.plan
        token = _CONTEXT.set(context)
        try:
            with torch.no_grad():  # again, because it is per thread
                output = self.model(
                    input_ids=plan.token_ids_T[None],
                    position_ids=plan.positions_T[None],
                    logits_to_keep=plan.logit_rows,
                    use_cache=False,
                )
        finally:
            _CONTEXT.reset(token)
        logits: torch.Tensor = output.logits[0]
        return logits

    def _text_config(self) -> Any:  # transformers config classes differ per model
        return self.configs[0].get_text_config(decoder=True)


def tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention function of the `AttentionInterface`: store the new keys, attend over the path.

    Args:
        module: The attention layer; its `layer_idx` names the layer.
        query: [1, H, T, D].
        key: [1, G, T, D] new keys after rotary embedding, not repeated to H heads.
        value: [1, G, T, Dv].
        attention_mask: None, since no mask function is registered under our name.
        scaling: Scale of the scores; None means D**-0.5.
        sliding_window: A query at position p sees keys p-sliding_window+1..p.
        softcap: Soft cap of the scores (Gemma 2).
        s_aux: [H] attention sinks (gpt-oss).
        position_bias: Not supported.

    Returns:
        [1, T, H, Dv] and None.
    """
    context = _CONTEXT.get()
    if context is None:
        raise RuntimeError(
            "the model was called directly while an engine session is open; close the session first"
        )
    if position_bias is not None or attention_mask is not None:
        raise UnsupportedModelError(type(module).__name__, "it passes a mask or position bias")
    layer = int(module.layer_idx)  # type: ignore[arg-type]  # Module attributes are typed as tensors
    context.layers_called.add(layer)
    context.kv.write(layer, context.plan.write_slots_T, key[0], value[0])
    settings = AttentionSettings(
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        window=sliding_window,
        softcap=softcap,
        sinks_H=s_aux,
    )
    if not torch.is_autocast_enabled(query.device.type):
        return attend(context.plan, context.kv, layer, query[0], settings)[None], None
    with torch.autocast(query.device.type, enabled=False):  # softmax and sums stay float32
        return attend(context.plan, context.kv, layer, query[0], settings)[None], None


def attention_configs(model: torch.nn.Module) -> list[Any]:  # config classes differ per model
    """Return the distinct configurations of a model and its submodules, the outermost first."""
    found: dict[int, Any] = {}
    for module in model.modules():
        config = getattr(module, "config", None)
        if hasattr(config, "_attn_implementation") and hasattr(config, "get_text_config"):
            found.setdefault(id(config), config)
    return list(found.values())


@contextmanager
def rollout_mode(
    model: torch.nn.Module, *, attention: str | None = ATTENTION_NAME
) -> Iterator[None]:
    """Evaluate without gradients, dropout and checkpointing, with the given attention function.

    Restores everything exactly on exit, also after an exception: the training flag of every module,
    gradient checkpointing flags, and the attention name of every configuration.

    Args:
        model: The module, wrapped or not.
        attention: Name of the attention function; None leaves it alone.
    """
    modules = list(model.modules())
    training = [module.training for module in modules]
    checkpointing = [m for m in modules if getattr(m, _CHECKPOINTING, False)]
    configs = attention_configs(model)
    # the property setter also writes sub-configurations, so remember and restore the field behind it
    names = [config._attn_implementation_internal for config in configs]
    try:
        model.eval()
        for module in checkpointing:
            setattr(module, _CHECKPOINTING, False)
        for config in configs if attention is not None else ():
            config._attn_implementation_internal = attention
        with torch.no_grad():
            yield
    finally:
        for module, flag in zip(modules, training, strict=True):
            module.training = flag
        for module in checkpointing:
            setattr(module, _CHECKPOINTING, True)
        for config, name in zip(configs, names, strict=True):
            config._attn_implementation_internal = name
