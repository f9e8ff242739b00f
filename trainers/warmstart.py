"""Supervised warm start from scratch: a tiny Llama that half knows an embedded task.

Reinforcement learning can only reward what the policy already does now and then. The first part of
the steps shows exemplary responses only, which teaches the skills (in chain sums, the arithmetic);
the rest mixes them with bad habits (answering directly, which such a model cannot get right). The
policy starts with both and has to find out what pays. The loss is taken on what a policy writes,
never on prompts and observations. A seed and a thread count give the
same weights on the same machine.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, get_cosine_schedule_with_warmup

from trainers.rollout_phase import encode_text
from trainers.tasks.base import Demonstration, Piece, Task, load_task
from trainers.tasks.chain_sums import ChainSumsConfig
from trainers.tasks.char_tokenizer import char_tokenizer
from trainers.tasks.tiny_llama import ModelShape, tiny_llama
from trainers.warmstart_report import WarmstartResult, evaluate, model_card, save

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
    task: str = "chain_sums"
    """An embedded task: chain_sums, office_sql, office_agent or corner_shop."""
    chain_sums: ChainSumsConfig = field(default_factory=ChainSumsConfig)
    """Sizes of the task chain_sums."""
    mix: dict[str, float] = field(default_factory=dict)
    """Probabilities of the task's habits once `mix_from` is reached; the others keep their defaults."""
    mix_from: float = 0.8
    """Fraction of the steps before which all demonstrations are exemplary."""
    model: ModelShape = field(default_factory=ModelShape)
    """Size of the model."""
    steps: int = 1200
    """Optimizer steps."""
    batch_size: int = 32
    """Demonstrations per step, each one drawn afresh."""
    learning_rate: float = 4.0e-3
    """Peak of the cosine schedule, reached after `warmup_steps`."""
    warmup_steps: int = 50
    """Steps of linear warm-up."""
    weight_decay: float = 0.01
    """Decoupled weight decay of AdamW."""
    seed: int = 0
    """Chooses weights, demonstrations and the samples of the evaluation."""
    num_threads: int = 1
    """Threads of torch during the run."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "num_threads"):
            _check_at_least(name, getattr(self, name), 1)
        if not 0.0 <= self.mix_from <= 1.0:
            raise ValueError(f"mix_from={self.mix_from} is not a fraction; use a value in [0, 1]")
        if self.learning_rate <= 0.0:
            raise ValueError(f"learning_rate={self.learning_rate} must be positive; use 4.0e-3")
        _check_at_least("model.max_positions", self.model.max_positions, self.make().num_tokens)

    def make(self) -> Task:
        """The task with the habits of the mix."""
        settings = (self.chain_sums,) if self.task == "chain_sums" else ()
        return load_task(self.task, self.mix, *settings)


def run(config: WarmstartConfig, *, on_progress: OnProgress | None = None) -> WarmstartResult:
    """Trains, evaluates and saves; torch's random state and thread count are put back.

    Args:
        config: What to make and where.
        on_progress: Told about each step; None shows a progress bar on the terminal.
    """
    if on_progress is None:
        with _progress_bar(config.steps) as show:
            return run(config, on_progress=show)
    with _seeded(config.seed, config.num_threads):
        task = config.make()
        tokenizer = char_tokenizer(task.words)
        model = tiny_llama(config.model, tokenizer)
        losses = _train(model, tokenizer, config, on_progress)
        result = evaluate(model, tokenizer, task, fmean(losses[-20:]))
    card = model_card(
        task,
        num_parameters=model.num_parameters(),
        training=f"{config.steps} steps of {config.batch_size}, seed {config.seed}",
        result=result,
    )
    save(model, tokenizer, task, Path(config.output).expanduser(), card)
    logger.info("warm start saved in %s: %s", config.output, asdict(result))
    return result


def _train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    config: WarmstartConfig,
    on_progress: OnProgress,
) -> list[float]:
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        betas=(0.9, 0.95),
        weight_decay=config.weight_decay,
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, config.warmup_steps, config.steps)
    losses = []
    for step, demonstrations in enumerate(_batches(config), start=1):
        loss = model(**_rows(demonstrations, tokenizer)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        on_progress(step, losses[-1])
    return losses


def _batches(config: WarmstartConfig) -> Iterator[list[Demonstration]]:
    """Demonstrations, one list per step."""
    rng = random.Random(f"warmstart/{config.seed}")
    task = config.make()
    for step in range(config.steps):
        is_mixed = step >= config.mix_from * config.steps
        yield [task.demonstration(rng, is_mixed=is_mixed) for _ in range(config.batch_size)]


def _rows(
    demonstrations: Sequence[Demonstration], tokenizer: PreTrainedTokenizerFast
) -> dict[str, torch.Tensor]:
    """Rows padded on the right; the labels leave out prompt, observations and padding."""
    rows = [_row(demonstration, tokenizer) for demonstration in demonstrations]
    shape = (len(rows), max(len(ids) for ids, _ in rows))
    ids_BT = torch.full(shape, tokenizer.pad_token_id)
    labels_BT = torch.full(shape, _IGNORED)
    for number, (ids, labels) in enumerate(rows):
        ids_BT[number, : len(ids)] = torch.tensor(ids)
        labels_BT[number, : len(ids)] = torch.tensor(labels)
    return {"input_ids": ids_BT, "labels": labels_BT}


def _row(
    demonstration: Demonstration, tokenizer: PreTrainedTokenizerFast
) -> tuple[list[int], list[int]]:
    """Ids and labels; pieces are tokenised one by one, as environment and policy make them."""
    ids, labels = [], []
    for piece in (Piece(demonstration.prompt, is_written=False), *demonstration.pieces):
        new = encode_text(tokenizer, piece.text)
        ids += new
        labels += new if piece.is_written else [_IGNORED] * len(new)
    return [*ids, tokenizer.eos_token_id], [*labels, tokenizer.eos_token_id]


@contextmanager
def _seeded(seed: int, num_threads: int) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _progress_bar(steps: int) -> Iterator[OnProgress]:
    columns = (
        TextColumn("warm start"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task("", total=steps, loss=float("nan"))

        def show(step: int, loss: float) -> None:
            bar.update(task, completed=step, loss=loss)

        yield show


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name}={value} is too small; it must be at least {least}")
