"""Recipe -> objects: the only place where a run is put together.

`check` decodes every section and refuses what cannot work, without reading a weight; `run` goes on
from there. Heavy libraries are imported here, so nothing else on the command line waits for them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from inference.engine import EngineConfig
from rewards.base import Reward
from rewards.load import config_class, reward_class
from rollout.branching.base import load_branch_policy, policy_class, policy_config_class
from rollout.config import RolloutConfig
from rollout.envs.load import load_environment
from trainers.batch_plan import BatchPlan
from trainers.combinations import check_algorithm, check_rollout
from trainers.data import DataConfig, PromptData, load_prompts
from trainers.launch import LaunchOptions
from trainers.launch_checks import world_size
from trainers.memory_estimate import MemoryEstimate, estimate_memory
from trainers.model import (
    DTYPES,
    ModelConfig,
    check_length,
    check_model,
    load_model,
    load_tokenizer,
)
from trainers.policy_config import PolicyConfig, check_trainer_keys, check_trainer_values
from trainers.recipe import RawRecipe, RecipeError, decode_section, decode_trainer_section
from trainers.recipe_decoding import decode
from trainers.settings import EvaluationConfig, LoggingConfig, RewardEntry
from trainers.warmstart import WarmstartConfig

SECTIONS: Mapping[str, type] = {
    "model": ModelConfig,
    "data": DataConfig,
    "rollout": RolloutConfig,
    "inference": EngineConfig,
    "logging": LoggingConfig,
    "evaluation": EvaluationConfig,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRecipe:
    """A training recipe, decoded."""

    raw: RawRecipe
    model: ModelConfig
    data: DataConfig
    rollout: RolloutConfig
    inference: EngineConfig
    logging: LoggingConfig
    evaluation: EvaluationConfig
    rewards: list[RewardEntry]
    trainer: dict[str, Any]  # checked keyword arguments of PolicyConfig


def check(raw: RawRecipe) -> None:
    """Decode a recipe and check everything that needs neither data nor model.

    Raises:
        RecipeError: one line that says what to change.
    """
    if raw.kind == "warmstart":
        decode_section(raw, "warmstart", WarmstartConfig)
        return
    recipe = decode_recipe(raw)
    build_rewards(recipe)


def decode_recipe(raw: RawRecipe) -> TrainRecipe:
    """All sections as objects.

    Raises:
        RecipeError: unknown key, wrong type, or values that exclude each other.
    """
    sections: dict[str, Any] = {
        name: decode_section(raw, name, cls) for name, cls in SECTIONS.items()
    }
    rewards = decode_section(raw, "rewards", list[RewardEntry])
    try:
        check_trainer_keys(raw.sections.get("trainer") or {})
        if not rewards:
            raise ValueError(
                "rewards is empty; name at least one, for example `- type: math_answer`"
            )
        _check_law(sections["rollout"])
        _check_environment(sections["rollout"])
    except ValueError as error:
        raise RecipeError(f"{raw.path}: {error}") from error
    trainer = decode_trainer_section(raw, PolicyConfig)
    try:
        check_trainer_values(trainer)
    except ValueError as error:
        raise RecipeError(f"{raw.path}: {error}") from error
    _check_branching(raw, sections["rollout"])
    try:
        check_algorithm(trainer)
        check_rollout(trainer, sections["rollout"])
    except ValueError as error:
        raise RecipeError(f"{raw.path}: {error}") from error
    return TrainRecipe(raw=raw, rewards=rewards, trainer=trainer, **sections)


def _check_branching(raw: RawRecipe, rollout: RolloutConfig) -> None:
    """Look the branch policy up and check its settings as strictly as every other section."""
    entry, where = rollout.branching_entry, "rollout.branch_policy"
    try:
        config = policy_config_class(policy_class(entry.type))
        if config is not None:
            decode(entry.settings, config, source=str(raw.path), where=f"{where}.settings")
        load_branch_policy(entry.type, rollout.branching, entry.settings)
    except RecipeError:
        raise
    except ValueError as error:
        raise RecipeError(f"{raw.path}: {where}: {error}") from error


def build_rewards(recipe: TrainRecipe) -> list[Reward]:
    """The reward objects, in the order of the recipe."""
    built = []
    for number, entry in enumerate(recipe.rewards):
        where = f"rewards.{number}"
        try:
            cls = reward_class(entry.type)
        except ValueError as error:
            raise RecipeError(f"{recipe.raw.path}: {where}.type: {error}") from error
        built.append(_build_reward(cls, entry, str(recipe.raw.path), f"{where}.settings"))
    return built


def _build_reward(
    cls: Callable[..., Reward], entry: RewardEntry, source: str, where: str
) -> Reward:
    settings = config_class(cast("type[Reward]", cls))
    if settings is None:
        if entry.settings:
            raise RecipeError(f"{source}: {where}: {entry.type} takes no settings; leave them out")
        return cls()
    return cls(decode(entry.settings, settings, source=source, where=where))


def build_policy_config(recipe: TrainRecipe, run_dir: Path) -> PolicyConfig:
    """TRL's arguments: the recipe's, and those that follow from other sections.

    This initialises the process group when a launcher started several processes.
    """
    trackers: list[str] = [name for name in recipe.logging.report_to if name != "none"]
    try:
        return PolicyConfig(
            output_dir=str(run_dir),
            run_name=recipe.logging.run_name or run_dir.name,
            report_to=trackers or "none",
            num_generations=recipe.rollout.width,
            max_completion_length=recipe.rollout.response_limit,
            temperature=recipe.rollout.temperature,
            reward_weights=[entry.weight for entry in recipe.rewards],
            remove_unused_columns=False,
            disable_tqdm=True,
            **{"ddp_find_unused_parameters": False, **recipe.trainer},
        )
    except ValueError as error:
        raise RecipeError(f"{recipe.raw.path}: trainer: {error}") from error


def build_plan(recipe: TrainRecipe, num_prompts: int) -> BatchPlan:
    """The batch arithmetic for the processes that the launcher started.

    Raises:
        RecipeError: a prompt group would be split, or the data set is too small.
    """
    plan = BatchPlan.from_trainer(
        recipe.trainer,
        num_processes=world_size(os.environ),
        num_generations=recipe.rollout.width,
        num_prompts=num_prompts,
    )
    try:
        plan.check()
    except ValueError as error:
        raise RecipeError(f"{recipe.raw.path}: {error}") from error
    return plan


def build_data(recipe: TrainRecipe, tokenizer: PreTrainedTokenizerBase) -> PromptData:
    """Training and held-out prompts.

    Raises:
        RecipeError: a file or a column is missing.
    """
    try:
        return load_prompts(recipe.data, tokenizer)
    except ValueError as error:
        raise RecipeError(f"{recipe.raw.path}: data: {error}") from error


def build_memory_estimate(
    recipe: TrainRecipe, plan: BatchPlan, config: PretrainedConfig
) -> MemoryEstimate:
    """The estimate that --dry_run prints."""
    tree = recipe.rollout.width * recipe.rollout.response_limit
    return estimate_memory(
        config,
        dtype=DTYPES[recipe.model.dtype],
        kv_tokens=plan.prompts_per_process * tree,
        rows_per_micro_batch=plan.per_device_train_batch_size,
        response_tokens=recipe.rollout.response_limit,
    )


def _check_environment(rollout: RolloutConfig) -> None:
    if rollout.env is not None:
        load_environment(rollout.env.type, rollout.env.options)


def _check_law(rollout: RolloutConfig) -> None:
    if rollout.temperature <= 0:
        raise ValueError(
            f"rollout.temperature={rollout.temperature}: training needs a positive temperature"
        )
    if (rollout.top_p, rollout.top_k, rollout.min_p) != (1.0, 0, 0.0):
        raise ValueError(
            f"rollout.top_p={rollout.top_p}, top_k={rollout.top_k}, min_p={rollout.min_p}: training "
            "compares log-probs of the full law, so sample from it (1.0, 0, 0.0)"
        )


def check_run(recipe: TrainRecipe) -> PretrainedConfig:
    """Read the model's configuration, no weights.

    Raises:
        RecipeError: the model is missing or not supported.
    """
    try:
        return check_model(recipe.model)
    except ValueError as error:
        raise RecipeError(f"{recipe.raw.path}: {error}") from error


def check_lengths(recipe: TrainRecipe, config: PretrainedConfig, data: PromptData) -> None:
    """Compare the longest prompt plus response with the model's positions.

    Raises:
        RecipeError: they do not fit.
    """
    try:
        check_length(
            config,
            prompt_tokens=data.longest_prompt_tokens,
            response_tokens=recipe.rollout.response_limit,
        )
    except ValueError as error:
        raise RecipeError(f"{recipe.raw.path}: {error}") from error


def run(raw: RawRecipe, options: LaunchOptions) -> None:
    """Do what the recipe says: train, or make a warm-started checkpoint."""
    if raw.kind == "warmstart":
        from trainers import warmstart

        config = decode_section(raw, "warmstart", WarmstartConfig)
        if not options.dry_run:
            warmstart.run(config)
        return
    from trainers.training_run import TrainingRun

    TrainingRun(decode_recipe(raw), options).execute()


__all__ = [
    "SECTIONS",
    "TrainRecipe",
    "build_data",
    "build_memory_estimate",
    "build_plan",
    "build_policy_config",
    "build_rewards",
    "check",
    "check_lengths",
    "check_run",
    "decode_recipe",
    "load_model",
    "load_tokenizer",
    "run",
]
