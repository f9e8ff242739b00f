"""Finds an environment by the `type` that a recipe names.

`sql_agent` means the module rollout/envs/sql_agent.py, which names its class in the constant
`ENVIRONMENT`; `my_pkg.my_module:MyEnvironment` means that class. The configuration of class
`MyEnvironment` is the dataclass `MyEnvironmentConfig` of the same module; an environment without one
takes no options.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollout.envs.base import Environment, StepEnvironment, TurnFormat
from rollout.envs.replay import ReplayEnvironment

_PLUGIN = re.compile(r"^ENVIRONMENT\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class EnvironmentSource:
    """Makes environments of one configuration."""

    make: Callable[[], Environment]
    turns: TurnFormat


def environment_names() -> list[str]:
    """Names of the environments in this package."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return [file.stem for file in files if _PLUGIN.search(file.read_text(encoding="utf-8"))]


def load_environment(
    name: str,
    options: Mapping[str, Any],  # fields of the environment's own Config
) -> EnvironmentSource:
    """The environment called `name`, wrapped for replay if it has no snapshots.

    Raises:
        ValueError: No such environment, an option is wrong, or the class is no environment.
    """
    cls = _environment_class(name)
    construct = functools.partial(cls, *_arguments(name, cls, options))
    example = construct()
    if isinstance(example, Environment):
        return EnvironmentSource(construct, example.turns)
    if isinstance(example, StepEnvironment):
        return EnvironmentSource(functools.partial(ReplayEnvironment, construct), example.turns)
    raise ValueError(f"rollout.env.type={name!r} needs turns, reset(example) and step(action)")


def load_object(
    name: str, *, key: str
) -> Any:  # whatever the user named; the caller knows the protocol
    """What `pkg.mod:name` names; for options of environments that need a function from outside.

    Raises:
        ValueError: It cannot be imported; the message starts with `key`.
    """
    module_name, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{key}={name!r} cannot be loaded: {error}; write pkg.mod:name") from error


def _environment_class(name: str) -> type:
    module_name, colon, _ = name.partition(":")
    if not colon:
        if name not in environment_names():
            raise ValueError(
                f"rollout.env.type={name!r} is unknown; use one of {environment_names()} or "
                "pkg.mod:Class"
            )
        name = f"rollout.envs.{module_name}:ENVIRONMENT"
    found = load_object(name, key="rollout.env.type")
    if not isinstance(found, type):
        raise ValueError(f"rollout.env.type={name!r} is {found!r}, expected a class")
    return found


def _arguments(
    name: str,
    cls: type,
    options: Mapping[str, Any],  # fields of the environment's own Config
) -> tuple[object, ...]:
    config = getattr(sys.modules[cls.__module__], f"{cls.__name__}Config", None)
    if config is None:
        if options:
            raise ValueError(f"rollout.env.options: {name} takes no options; leave them out")
        return ()
    known = [field.name for field in dataclasses.fields(config)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"rollout.env.options: {name} has no {unknown}; known: {known}")
    try:
        return (config(**options),)
    except TypeError as error:
        raise ValueError(f"rollout.env.options: {name}: {error}") from error
