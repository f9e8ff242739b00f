"""Fused norms: the root-mean-square norms of Llama-like models as one kernel call instead of seven.

A norm class counts as known if its forward compiles to the same bytecode as that of Llama (Qwen,
Mistral and others are generated from it). Like packed weights, the override is an instance attribute
that is taken away at the end of the session.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from inference.native.build import load_kernel
from inference.native.row_ops import rms_norm

_DTYPES = (torch.float32, torch.bfloat16)


@contextmanager
def fused_norms(model: torch.nn.Module) -> Iterator[None]:
    """Let known norms of `model` use the kernel; restored exactly on exit, nothing off the CPU."""
    changed: list[torch.nn.Module] = []
    try:
        if load_kernel() is not None and not torch.is_autocast_enabled("cpu"):
            for module in model.modules():
                if _is_known(module):
                    module.forward = FusedNorm(module)
                    changed.append(module)
        yield
    finally:
        for module in changed:
            del module.forward


class FusedNorm:
    """Replaces `forward` of one norm."""

    __slots__ = ("epsilon", "norm")

    def __init__(self, norm: torch.nn.Module) -> None:
        self.norm = norm
        self.epsilon = float(norm.variance_epsilon)  # type: ignore[arg-type]  # a plain number

    def __call__(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return the normed states [..., D]."""
        weight: torch.Tensor = self.norm.weight  # type: ignore[assignment]  # a parameter
        if hidden_states.dtype != weight.dtype:
            normed: torch.Tensor = type(self.norm).forward(self.norm, hidden_states)
            return normed
        return rms_norm(hidden_states, weight, self.epsilon)


def _is_known(module: torch.nn.Module) -> bool:
    """Whether it computes what Llama's norm computes, on the CPU, in a dtype of the kernel."""
    ours = getattr(type(module).forward, "__code__", None)
    known = LlamaRMSNorm.forward.__code__
    return (
        ours is not None
        and (ours.co_code, ours.co_names) == (known.co_code, known.co_names)
        and ours.co_consts[1:] == known.co_consts[1:]
        and "forward" not in vars(module)
        and isinstance(getattr(module, "weight", None), torch.nn.Parameter)
        and module.weight.device.type == "cpu"
        and module.weight.dtype in _DTYPES
        and module.weight.is_contiguous()
    )
