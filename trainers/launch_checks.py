"""Launches that look right and are not: found before a model is loaded, answered with one line.

* `accelerate launch --cpu --num_processes 2` starts one process and reports no error.
* Two CPU processes under a launcher are two strangers unless the trainer's own `use_cpu` is set.
* A recipe that asks for a GPU fails late, inside a library, on a machine without one.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping

from trainers.recipe import RawRecipe, RecipeError

logger = logging.getLogger(__name__)


def check_environment(raw: RawRecipe, environ: Mapping[str, str]) -> None:
    """Refuse a launch whose number of processes is not the one that was asked for.

    Raises:
        RecipeError: says which command to use instead.
    """
    if _uses_cpu(environ) and "MASTER_ADDR" in environ and "RANK" not in environ:
        raise RecipeError(
            "accelerate --cpu (or MULTI_CPU) with several processes starts only one; use: accelerate "
            "launch --config_file accelerate_configs/cpu_2.yaml (for one process unset MASTER_ADDR)"
        )
    if raw.kind == "warmstart" and world_size(environ) > 1:
        raise RecipeError(
            f"{raw.path}: kind=warmstart runs in one process, but the launcher started "
            f"{world_size(environ)}; use: ramify train {raw.path}"
        )


def settle_device(raw: RawRecipe, environ: Mapping[str, str]) -> RawRecipe:
    """Return the recipe with `trainer.use_cpu` and `trainer.bf16` filled in for a run on the CPU.

    The CPU is used if the recipe or accelerate says so, or if there is no accelerator.

    Raises:
        RecipeError: the recipe asks for a device that is not there, or for too many of them.
    """
    trainer = raw.sections.get("trainer") or {}
    if raw.kind != "train" or not isinstance(trainer, dict):
        return raw
    devices = num_accelerators()
    if devices == 0:
        _refuse_gpu_options(raw, trainer)
    if not (trainer.get("use_cpu") or devices == 0 or _uses_cpu(environ)):
        _check_device_count(devices, int(environ.get("LOCAL_WORLD_SIZE", "1")))
        return raw
    if "use_cpu" not in trainer:
        logger.info("training on the CPU: trainer.use_cpu is set to true")
    settled = {"bf16": False, **trainer, "use_cpu": True}
    return dataclasses.replace(raw, sections={**raw.sections, "trainer": settled})


def check_world_size(seen: int, environ: Mapping[str, str]) -> None:
    """Compare the processes that the trainer sees with those that the launcher started.

    Args:
        seen: `accelerator.num_processes`.
        environ: The environment of this process.

    Raises:
        RecipeError: each process would train alone.
    """
    started = world_size(environ)
    if started != seen:
        raise RecipeError(
            f"the launcher started {started} processes, but this one sees {seen}, so each would train "
            "alone; on CPUs use: accelerate launch --config_file accelerate_configs/cpu_2.yaml"
        )


def world_size(environ: Mapping[str, str]) -> int:
    """Processes that the launcher started, on all machines."""
    return int(environ.get("WORLD_SIZE", "1"))


def num_accelerators() -> int:
    """Devices that torch sees on this machine besides the CPU."""
    import torch

    return torch.accelerator.device_count() if torch.accelerator.is_available() else 0


def _uses_cpu(environ: Mapping[str, str]) -> bool:
    return environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")


def _refuse_gpu_options(raw: RawRecipe, trainer: Mapping[str, object]) -> None:
    asked = "use_cpu=false" if trainer.get("use_cpu") is False else None
    for name in ("bf16", "fp16"):
        if trainer.get(name) is True and not trainer.get("use_cpu"):
            asked = f"{name}=true"
    if asked:
        raise RecipeError(
            f"{raw.path}: trainer.{asked} asks for a GPU and this machine shows none; run it where "
            "there is one, or add: --set trainer.use_cpu=true --set trainer.bf16=false"
        )


def _check_device_count(devices: int, processes: int) -> None:
    if processes > devices:
        raise RecipeError(
            f"the launcher started {processes} processes on this machine, which has {devices} "
            f"device(s); use: accelerate launch --num_processes {devices} ... on each machine"
        )
