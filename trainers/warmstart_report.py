"""What a warm start leaves behind: figures on held-out problems, checkpoint folder, model card."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from trainers.tasks.chain_sums import STEP_TOKENS, ChainSumsConfig, chain_sum_rows, chains

# Shape suffixes: B rows of a batch, T tokens of a row.


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmstartResult:
    """Figures of a warm start; accuracies are fractions of the held-out problems."""

    final_loss: float
    """Mean loss of the last 20 steps, nats per response token."""
    greedy_accuracy: float
    """Solved by the most likely response."""
    sampled_accuracy: float
    """Solved by one sample at temperature 1."""
    derivation_frac: float
    """Samples with all steps."""
    malformed_frac: float
    """Samples without a closed box at the end."""


def evaluate(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    task: ChainSumsConfig,
    final_loss: float,
) -> WarmstartResult:
    """Answers all held-out problems, greedily and by sampling from torch's random state."""
    rows = chain_sum_rows(task, "heldout")
    prompts = [str(row["prompt"]) for row in rows]
    endings = [rf"\boxed{{{row['answer']}}}" for row in rows]
    model.eval()
    greedy = _respond(model, tokenizer, prompts, _law(tokenizer, task, do_sample=False))
    sampled = _respond(model, tokenizer, prompts, _law(tokenizer, task, do_sample=True))
    return WarmstartResult(
        final_loss=final_loss,
        greedy_accuracy=fmean(map(str.endswith, greedy, endings)),
        sampled_accuracy=fmean(map(str.endswith, sampled, endings)),
        derivation_frac=fmean(text.count(";") == task.num_terms - 1 for text in sampled),
        malformed_frac=fmean(not text.endswith("}") for text in sampled),
    )


def save(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    task: ChainSumsConfig,
    folder: Path,
    card: str,
) -> None:
    """Writes weights, tokenizer, default generation settings and the card."""
    model.generation_config = _law(tokenizer, task, do_sample=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes it for the owner only
    (folder / "README.md").write_text(card, encoding="utf-8")


def model_card(
    task: ChainSumsConfig, *, num_parameters: int, training: str, result: WarmstartResult
) -> str:
    """The README of the checkpoint; `training` says in a few words how it was trained."""
    example = next(chains(task, "heldout", random.Random(0)))
    return f"""# Warm-started policy for chained sums modulo 100

A Llama of {num_parameters:,} parameters with a character-level tokenizer, trained from scratch on
generated demonstrations. It is a starting point for reinforcement learning and of no other use.

    prompt    {example.prompt}
    stepwise  {"".join(example.steps)}\\boxed{{{example.answer}}}
    direct    \\boxed{{{example.answer}}}

Made by `accelerate launch recipes/warmstart.yaml` ({training}).
On {task.heldout_size} held-out problems:

| figure | value |
|---|---|
| accuracy, greedy | {result.greedy_accuracy:.3f} |
| accuracy, one sample at temperature 1 | {result.sampled_accuracy:.3f} |
| samples with all steps | {result.derivation_frac:.3f} |
| malformed samples | {result.malformed_frac:.3f} |
| final loss, nats per token | {result.final_loss:.4f} |
"""


def _law(
    tokenizer: PreTrainedTokenizerFast, task: ChainSumsConfig, *, do_sample: bool
) -> GenerationConfig:
    return GenerationConfig(
        do_sample=do_sample,
        top_k=0 if do_sample else None,
        max_new_tokens=STEP_TOKENS * task.num_terms,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


@torch.no_grad()
def _respond(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    law: GenerationConfig,
) -> list[str]:
    """Responses to prompts of equal length."""
    ids_BT = torch.tensor(tokenizer(prompts)["input_ids"])
    output_BT = model.generate(  # type: ignore[misc]  # transformers types self as a protocol
        ids_BT, attention_mask=torch.ones_like(ids_BT), generation_config=law
    )
    return tokenizer.batch_decode(output_BT[:, ids_BT.shape[1] :], skip_special_tokens=True)
