"""StepExecutor: one forward of the model per step, with everything that makes it fast.

It owns what depends on the weights: the KV tensors, the packed weights and the choice of the attention
backend. The engine decides what is fed (scheduler.py); this decides how it is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from inference.fused_norms import fused_norms
from inference.kv.pool import FullKV
from inference.native.tree_attention import is_available
from inference.packed_weights import PackedWeights
from inference.probe import probe
from inference.runner import ModelRunner, StepContext, rollout_mode
from inference.scheduler import StepWork
from inference.step_plan import AttentionBackend, AttentionChoice, build_plan


class StepExecutor:
    """Runs planned steps on a live module."""

    def __init__(
        self, model: torch.nn.Module, *, attention: AttentionChoice, fast_layers: bool
    ) -> None:
        self.runner = ModelRunner(model)
        self.backend = choose_backend(attention, self.runner.device, self.runner.dtype)
        self.kv = FullKV()
        self._fast_layers = fast_layers
        self._weights = PackedWeights()
        self._is_probed = False

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Switch the module to decoding; everything is restored on exit, also after an exception.

        Raises:
            UnsupportedModelError: The first time, if our forward is not the model's own forward.
        """
        if not self._is_probed:
            probe(self.runner, self.backend)
            self._is_probed = True
        model = self.runner.model
        with rollout_mode(model):
            if not self._fast_layers:
                yield
                return
            with self._weights.installed(model), fused_norms(model):
                yield

    def logits(self, work: StepWork, *, num_slots: int) -> torch.Tensor:
        """Return the logits [U, V] of a step; writes the KV of the tokens that it feeds.

        Args:
            work: What is fed.
            num_slots: All slots are below this number.
        """
        plan = build_plan(
            work.spans,
            token_ids=work.token_ids,
            logit_rows=work.logit_rows,
            backend=self.backend,
            device=self.runner.device,
        )
        self.kv.reserve(num_slots)
        return self.runner.logits(StepContext(plan, self.kv))

    def forget_weights(self) -> None:
        """Drop copies of the weights, because they changed."""
        self._weights.forget()


def choose_backend(
    choice: AttentionChoice, device: torch.device, dtype: torch.dtype
) -> AttentionBackend:
    """Return the backend for a model on `device` with weights of `dtype`.

    Raises:
        ValueError: "native" was asked for and cannot run.
    """
    if choice in ("gather", "shared_prefix"):
        return choice
    if is_available(device, dtype):
        return "native"
    if choice == "native":
        raise ValueError(
            f"attention='native' needs a C++ compiler and a float32 or bfloat16 model on the CPU, not "
            f"{dtype} on {device}; use attention='auto'"
        )
    return "shared_prefix"
