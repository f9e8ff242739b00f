"""`ramify eval <checkpoint>`: Avg@k, pass@k and maj@k of a saved policy on held-out prompts.

Data and rewards come from a recipe: the one named with --recipe, else the one that lies beside the
checkpoint (<run>/recipe.yaml). Flags override it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.progress import Progress
from transformers import PreTrainedModel

from inference.engine import Engine
from rollout.config import PromptTask
from trainers import build
from trainers.evaluate import Evaluation, PromptOutcome, evaluate_prompts, summarise
from trainers.model import load_model, load_tokenizer
from trainers.monitoring.terminal import Terminal
from trainers.recipe import RecipeError, read_recipe
from trainers.reward_function import judge_with
from trainers.rollout_phase import encode_text, prompt_tasks, text_of, tokenize
from trainers.training_run import RECIPE_FILE

PROMPTS_PER_BATCH = 32
"""Prompts answered between two moves of the progress bar; results do not depend on it."""


def main(given: argparse.Namespace) -> None:
    """Evaluate and print.

    Args:
        given: checkpoint, and data, num_prompts, k, temperature, max_new_tokens, seed, recipe, json;
            None where the recipe decides.

    Raises:
        RecipeError: no recipe can be found, or it does not fit the checkpoint.
    """
    recipe = _recipe(given)
    build.check_run(recipe)
    result = _evaluate(recipe, Terminal(is_main=not given.json))
    if given.json:
        Terminal(is_main=True).line(json.dumps(result.as_dict(), indent=2))
        return
    title = f"{given.checkpoint}: {result.num_prompts} held-out prompts, 95 % intervals"
    Terminal(is_main=True).block(
        title, [*result.lines(), f"mean length {result.mean_length_tokens:.1f} tokens"]
    )


def _recipe(given: argparse.Namespace) -> build.TrainRecipe:
    """The recipe with the flags applied and the checkpoint as its model."""
    path = Path(given.recipe or _recipe_beside(Path(given.checkpoint)))
    overrides = [f"model.path={json.dumps(_absolute(given.checkpoint))}", "model.lora=null"]
    flags = {
        "data.heldout": _absolute(given.data) if given.data else None,
        "evaluation.num_prompts": given.num_prompts,
        "evaluation.k": given.k,
        "evaluation.temperature": given.temperature,
        "evaluation.seed": given.seed,
    }
    overrides += [f"{key}={json.dumps(value)}" for key, value in flags.items() if value is not None]
    recipe = build.decode_recipe(read_recipe(path, overrides))
    if given.max_new_tokens is None:
        return recipe
    return replace(recipe, rollout=_with_limit(recipe, given.max_new_tokens))


def _recipe_beside(checkpoint: Path) -> Path:
    for folder in (checkpoint, checkpoint.parent):
        if (folder / RECIPE_FILE).is_file():
            return folder / RECIPE_FILE
    raise RecipeError(
        f"{checkpoint} has no {RECIPE_FILE} beside it, so data and rewards are unknown; "
        "name a recipe with --recipe, for example --recipe recipes/dcpo.yaml"
    )


def _absolute(path: str) -> str:
    """A local path made absolute; hub ids and task names stay as they are."""
    return str(Path(path).resolve()) if Path(path).exists() else path


def _with_limit(recipe: build.TrainRecipe, limit: int) -> build.RolloutConfig:
    segments = -(-limit // recipe.rollout.segment_length)
    return replace(recipe.rollout, max_segments=segments, max_response_tokens=limit)


def _evaluate(recipe: build.TrainRecipe, terminal: Terminal) -> Evaluation:
    tokenizer = load_tokenizer(recipe.model)
    rows = build.build_data(recipe, tokenizer).heldout
    if rows is None or recipe.evaluation.num_prompts == 0:
        raise RecipeError(
            "there are no held-out prompts; name a file with --data, --num_prompts > 0"
        )
    chosen = [rows[i] for i in range(min(len(rows), recipe.evaluation.num_prompts))]

    def decode(token_ids: Sequence[int]) -> str:
        return text_of(tokenizer, token_ids)

    model = load_model(recipe.model)
    if torch.accelerator.is_available():
        torch.nn.Module.to(model, torch.accelerator.current_accelerator())
    engine = Engine(model, recipe.inference)
    judge = judge_with(build.build_rewards(recipe)[0], decode)
    eos = _eos_ids(model, tokenizer.eos_token_id)

    def answer(tasks: Sequence[PromptTask]) -> list[PromptOutcome]:
        return evaluate_prompts(
            engine,
            tasks,
            replace(recipe.rollout, temperature=recipe.evaluation.temperature),
            k=recipe.evaluation.k,
            judge=judge,
            decode=decode,
            eos_token_ids=eos,
            seed=recipe.evaluation.seed,
            encode=lambda text: encode_text(tokenizer, text),
        )

    with engine.session():
        tasks = prompt_tasks(chosen, lambda prompts: tokenize(tokenizer, prompts))
        return summarise(_in_batches(tasks, answer, terminal))


def _in_batches(
    tasks: Sequence[PromptTask],
    answer: Callable[[Sequence[PromptTask]], list[PromptOutcome]],
    terminal: Terminal,
) -> list[PromptOutcome]:
    outcomes: list[PromptOutcome] = []
    with Progress(console=terminal.console, transient=True) as progress:
        bar = progress.add_task("evaluating", total=len(tasks))
        for start in range(0, len(tasks), PROMPTS_PER_BATCH):
            outcomes += answer(tasks[start : start + PROMPTS_PER_BATCH])
            progress.update(bar, completed=len(outcomes))
    return outcomes


def _eos_ids(model: PreTrainedModel, tokenizer_eos: int) -> list[int]:
    """Every id that ends a response: the model's and the tokenizer's, as in training."""
    generation = model.generation_config
    declared = None if generation is None else generation.eos_token_id
    ids = [declared] if isinstance(declared, int) else list(declared or [])
    return ids if tokenizer_eos in ids else [tokenizer_eos, *ids]
