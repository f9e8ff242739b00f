"""Supervised warm start from scratch: a tiny Llama that half knows the embedded task.

Reinforcement learning can only reward what the policy already does now and then. The
demonstrations mix direct answers, which such a model cannot get right, with derivations, which it
can: the policy starts with both habits and has to find out that the steps pay. The loss is taken
on response tokens only. A seed and a thread count give the same weights on the same CPU.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers import get_cosine_schedule_with_warmup as cosine_schedule

from trainers.tasks.chain_sums import (
    STEP_TOKENS,
    ChainSumsConfig,
    DemonstrationMix,
    chain_sum_rows,
    chains,
    demonstration,
)
from trainers.tasks.char_tokenizer import char_tokenizer

logger = logging.getLogger(__name__)

# Shape suffixes: B rows of a batch, T tokens of a padded row.

_IGNORED = -100
"""Label of the tokens that the loss of transformers leaves out."""

OnProgress = Callable[[int, float], None]
"""Called after every step with the number of steps done and the loss in nats per token."""


@dataclass(slots=True, kw_only=True)
class WarmstartConfig:
    """Section `warmstart` of a recipe of kind `warmstart`."""

    output: str
    """Folder for weights, tokenizer and model card; files in it are overwritten."""
    num_terms: int = 4
    """Numbers per problem (see `ChainSumsConfig`)."""
    mix: DemonstrationMix = field(default_factory=DemonstrationMix)
    """How often the demonstrations take which form."""
    hidden_size: int = 128
    """Width of the model."""
    num_layers: int = 3
    """Decoder layers."""
    num_heads: int = 4
    """Query heads; divides `hidden_size`."""
    num_kv_heads: int = 2
    """Key and value heads; divides `num_heads`."""
    intermediate_size: int = 256
    """Inner width of the feed-forward blocks."""
    steps: int = 600
    """Optimizer steps."""
    batch_size: int = 128
    """Demonstrations per step, each one drawn afresh."""
    learning_rate: float = 2.0e-3
    """Peak of the cosine schedule, reached after `warmup_steps`."""
    warmup_steps: int = 50
    """Steps of linear warm-up."""
    weight_decay: float = 0.01
    """Decoupled weight decay of AdamW."""
    eval_prompts: int = 256
    """Held-out problems on which the accuracy is measured at the end."""
    seed: int = 0
    """Chooses weights, demonstrations and the samples of the evaluation."""
    num_threads: int = 2
    """Threads of torch during the run."""

    def __post_init__(self) -> None:
        for name in ("num_layers", "steps", "batch_size", "eval_prompts", "num_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.hidden_size % (2 * self.num_heads) or self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size}, num_heads={self.num_heads}, "
                f"num_kv_heads={self.num_kv_heads}: heads need an even width and kv heads must "
                "divide the heads; use 128, 4, 2"
            )
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate={self.learning_rate} must be positive; use 2.0e-3")


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmstartResult:
    """What a run reports."""

    final_loss: float
    """Mean loss of the last 20 steps, nats per response token."""
    greedy_accuracy: float
    """Fraction of held-out problems that the most likely response solves."""
    sampled_accuracy: float
    """The same for one sample per problem at temperature 1."""


def run(config: WarmstartConfig, *, on_progress: OnProgress) -> WarmstartResult:
    """Trains, evaluates and saves; the random state and thread count of torch are put back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(config.num_threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            return _run_seeded(config, on_progress)
    finally:
        torch.set_num_threads(threads)


def run_with_bar(config: WarmstartConfig) -> WarmstartResult:
    """`run` with a progress bar on the terminal."""
    columns = (
        TextColumn("warm start"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task("", total=config.steps, loss=float("nan"))
        return run(config, on_progress=lambda n, loss: bar.update(task, completed=n, loss=loss))
