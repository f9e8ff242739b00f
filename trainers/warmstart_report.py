"""What a warm start leaves behind: figures on held-out problems, checkpoint folder, model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from trainers.tasks.base import Task

# Shape suffixes: B rows of a batch, T tokens of a row.


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmstartResult:
    """Figures of a warm start."""

    final_loss: float
    """Mean loss of the last 20 steps, nats per token that a policy writes."""
    figures: Mapping[str, float]
    """What the policy does with the held-out problems, see `Task.figures`."""


def evaluate(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    task: Task,
    final_loss: float,
) -> WarmstartResult:
    """Answers held-out problems, greedily and by sampling from torch's random state."""
    model.eval()
    figures = task.figures(partial(_respond, model, tokenizer, task))
    return WarmstartResult(final_loss=final_loss, figures=figures)


def save(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    task: Task,
    folder: Path,
    card: str,
) -> None:
    """Writes weights, tokenizer, default generation settings and the card."""
    model.generation_config = _law(tokenizer, task, do_sample=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes it for the owner only
    (folder / "README.md").write_text(card, encoding="utf-8")


def model_card(task: Task, *, num_parameters: int, training: str, result: WarmstartResult) -> str:
    """The README of the checkpoint; `training` says in a few words how it was trained."""
    example = "\n".join(f"    {line}" for line in task.example().splitlines())
    figures = "\n".join(f"| {name} | {value:.3f} |" for name, value in result.figures.items())
    return f"""# Warm-started policy for {task.title}

A Llama of {num_parameters:,} parameters with a tokenizer of characters and a few words, trained from
scratch on generated demonstrations. It is a starting point for reinforcement learning with
recipes/{task.recipe}.yaml and of no other use.

{example}

Made by `accelerate launch recipes/{task.warmstart}.yaml` ({training}).
On {len(task.rows("heldout"))} held-out problems:

| figure | value |
|---|---|
{figures}
| final loss, nats per token | {result.final_loss:.4f} |
"""


def _law(tokenizer: PreTrainedTokenizerFast, task: Task, *, do_sample: bool) -> GenerationConfig:
    return GenerationConfig(
        do_sample=do_sample,
        top_k=0 if do_sample else None,
        max_new_tokens=task.num_turn_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _respond(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    task: Task,
    prompts: Sequence[str],
    do_sample: bool,
) -> list[str]:
    """Responses in the order of the prompts; those of equal length are answered together."""
    law = _law(tokenizer, task, do_sample=do_sample)
    ids = tokenizer(list(prompts))["input_ids"]
    order = sorted(range(len(ids)), key=lambda number: len(ids[number]))
    found: dict[int, str] = {}
    for _, group in groupby(order, key=lambda number: len(ids[number])):
        numbers = list(group)
        ids_BT = torch.tensor([ids[number] for number in numbers])
        found.update(zip(numbers, _generated(model, tokenizer, ids_BT, law), strict=True))
    return [found[number] for number in range(len(ids))]


@torch.no_grad()
def _generated(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    ids_BT: torch.Tensor,
    law: GenerationConfig,
) -> list[str]:
    output_BT = model.generate(  # type: ignore[misc]  # transformers types self as a protocol
        ids_BT, attention_mask=torch.ones_like(ids_BT), generation_config=law
    )
    return tokenizer.batch_decode(output_BT[:, ids_BT.shape[1] :], skip_special_tokens=True)
