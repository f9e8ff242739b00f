"""Overrides from the command line: `--set rollout.width=8`, `--set rewards.0.weight=2.0`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainers.recipe_format import RecipeError, Tree, load_yaml


def apply_overrides(mapping: Tree, overrides: Sequence[str], folder: Path) -> None:
    """Change `mapping` in place; later overrides win.

    Args:
        mapping: Sections of a recipe.
        overrides: Texts `key.path=value`; the value is YAML, list elements are named by index.
        folder: What `./` and `../` are relative to in values.

    Raises:
        RecipeError: names the override and what is wrong with it.
    """
    for override in overrides:
        key, equals, text = override.partition("=")
        source = f"--set {override}"
        if not equals or not all(key.split(".")):
            raise RecipeError(f"{source}: expected key.path=value, for example rollout.width=8")
        value = absolute_paths(load_yaml(text, source), folder)
        _assign(mapping, key.split("."), value, source)


def absolute_paths(value: Any, folder: Path) -> Any:  # any YAML value
    """Return `value` with every text that starts with ./ or ../ made absolute, seen from `folder`."""
    if isinstance(value, dict):
        return {key: absolute_paths(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [absolute_paths(item, folder) for item in value]
    if isinstance(value, str) and value.startswith(("./", "../")):
        return str((folder / value).resolve())
    return value


def _assign(mapping: Tree, parts: list[str], value: object, source: str) -> None:
    """Set the value at a key path; missing mappings on the way are created."""
    holder: Any = mapping  # a mapping or list of YAML values
    for depth, part in enumerate(parts):
        key = _key(holder, part, ".".join(parts[:depth]), source)
        if depth == len(parts) - 1:
            holder[key] = value
        elif isinstance(holder, dict) and holder.get(key) is None:
            holder[key] = {}
        holder = holder[key]


def _key(holder: object, part: str, where: str, source: str) -> str | int:
    """The key of `part` in a mapping, or its index in a list."""
    if isinstance(holder, dict):
        return part
    if not isinstance(holder, list):
        raise RecipeError(f"{source}: {where}={holder!r} has no keys; set {where} itself")
    if not part.isdecimal() or int(part) >= len(holder):
        raise RecipeError(
            f"{source}: {where} is a list of {len(holder)}; use an index 0..{len(holder) - 1}"
        )
    return int(part)
