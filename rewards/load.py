"""Finds a reward by the `type` that a recipe names.

`math_answer` means the module rewards/math_answer.py, which names its class in the constant `REWARD`.
`my_pkg.my_module:MyReward` means that class. The configuration of class `MyReward` is the dataclass
`MyRewardConfig` of the same module; a reward without one takes no arguments.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

from rewards.base import Reward

_PLUGIN = re.compile(r"^REWARD\b", re.MULTILINE)


def reward_types() -> list[str]:
    """Names of the rewards that this package provides."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return [file.stem for file in files if _PLUGIN.search(file.read_text(encoding="utf-8"))]


def reward_class(type_name: str) -> type[Reward]:
    """The class that a recipe's `type` names.

    Raises:
        ValueError: No such reward; the message names the nearest ones.
    """
    module_name, colon, class_name = type_name.partition(":")
    if colon:
        found = getattr(_import(module_name, type_name), class_name, None)
    elif type_name in reward_types():
        found = importlib.import_module(f"rewards.{type_name}").REWARD
    else:
        raise ValueError(_unknown(type_name))
    if not isinstance(found, type) or not all(hasattr(found, part) for part in ("name", "score")):
        raise ValueError(
            f"rewards type {type_name!r}: expected a class with `name` and `score(sample)`, "
            f"found {found!r}"
        )
    return found


def config_class(reward: type[Reward]) -> type | None:
    """The configuration dataclass of a reward class, None when it takes no configuration."""
    found = getattr(sys.modules[reward.__module__], f"{reward.__name__}Config", None)
    return found if isinstance(found, type) and dataclasses.is_dataclass(found) else None


def _import(module_name: str, type_name: str) -> ModuleType:
    """Import a user's module; the current directory is searched last, so it shadows nothing."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"rewards type {type_name!r}: importing {module_name!r} failed ({error}); is its folder "
            "on the module search path?"
        ) from error


def _unknown(type_name: str) -> str:
    names = reward_types()
    nearest = difflib.get_close_matches(type_name, names, n=3, cutoff=0.4) or names
    return (
        f"rewards type {type_name!r} is unknown; did you mean {' or '.join(nearest)}? "
        "A class of your own is written my_pkg.my_module:MyReward"
    )
