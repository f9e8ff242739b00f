"""Reading and writing recipes: file -> sections -> typed configuration of each section.

The caller (build.py) names the class of each section; nothing here knows a trainer or a reward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_origin

from trainers.recipe_decoding import decode, decode_keys, nearest
from trainers.recipe_format import RecipeError, Tree, parse, render
from trainers.recipe_overrides import absolute_paths, apply_overrides

__all__ = [
    "KINDS",
    "SECTIONS",
    "RawRecipe",
    "RecipeError",
    "decode_section",
    "decode_trainer_section",
    "read_recipe",
    "write_recipe",
]

T = TypeVar("T")

KINDS = ("train", "warmstart")
SECTIONS = (
    "model",
    "data",
    "trainer",
    "rollout",
    "rewards",
    "inference",
    "logging",
    "evaluation",
    "warmstart",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRecipe:
    """A recipe after overrides, format checked, values not yet decoded."""

    path: Path
    """The file."""
    about: str
    """Free text of the header."""
    kind: str = "train"
    """train or warmstart."""
    sections: Mapping[str, Any]  # any YAML value
    """Values by section name; texts that began with ./ or ../ are absolute paths."""

    def mapping(self) -> Tree:
        """What `write_recipe` takes to write this recipe again."""
        return {"kind": self.kind, **self.sections}


def read_recipe(path: Path | str, overrides: Sequence[str] = ()) -> RawRecipe:
    """Read a recipe, check its format and section names, apply overrides.

    Texts that start with ./ or ../ are paths: relative to the file that they stand in, and in an
    override to the current directory. Other texts are left alone.

    Args:
        path: The recipe.
        overrides: Texts like `rollout.width=8`, see `trainers.recipe_overrides`.

    Raises:
        RecipeError: one line that says what to change.
    """
    path = Path(path)
    about, mapping = parse(_text(path), str(path))
    mapping = absolute_paths(mapping, path.resolve().parent)
    apply_overrides(mapping, overrides, Path.cwd())
    kind = mapping.pop("kind", "train")
    if kind not in KINDS:
        raise RecipeError(f"{path}: kind={kind!r}, expected one of {', '.join(KINDS)}")
    _check_sections(mapping, path)
    return RawRecipe(path=path, about=about, kind=kind, sections=mapping)


def decode_section(raw: RawRecipe, name: str, cls: type[T]) -> T:
    """Make the configuration object of one section; a missing section means its defaults.

    Args:
        raw: The recipe.
        name: A name of `SECTIONS`.
        cls: A dataclass, or a list or union of dataclasses.

    Raises:
        RecipeError: unknown or missing key, wrong type, or a value that the class refuses.
    """
    value = raw.sections.get(name)
    if value is None:
        value = [] if get_origin(cls) is list else {}
    return decode(value, cls, source=str(raw.path), where=name)


def decode_trainer_section(raw: RawRecipe, cls: type) -> dict[str, Any]:  # arguments of any type
    """Check the trainer section against the fields of `cls`; returns keyword arguments for it.

    Args:
        raw: The recipe.
        cls: A dataclass that derives from trl's GRPOConfig.

    Raises:
        RecipeError: unknown key or wrong type.
    """
    section = raw.sections.get("trainer") or {}
    return decode_keys(section, cls, source=str(raw.path), where="trainer")


def write_recipe(mapping: Mapping[str, object], about: str, path: Path | str) -> None:
    """Write a runnable recipe that reads back to the same mapping; replaces the file at once.

    Args:
        mapping: Sections (and kind); dataclasses, enums, tuples and paths are written as plain YAML.
        about: Free text of the header.
        path: Where to; the folder is made.

    Raises:
        RecipeError: `about` or a value cannot stand in a recipe; nothing is written.
    """
    path = Path(path)
    text = render(mapping, about)
    parse(text, str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read from {Path.cwd()}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8"
        ) from error


def _check_sections(mapping: Tree, path: Path) -> None:
    for name, value in mapping.items():
        if name not in SECTIONS:
            raise RecipeError(f"{path}: {name}: unknown section{nearest(str(name), SECTIONS)}")
        if value is not None and not isinstance(value, (dict, list)):
            raise RecipeError(f"{path}: {name}={value!r}, expected a section with keys below it")
    if not mapping:
        raise RecipeError(f"{path}: there is no section; known: {', '.join(SECTIONS)}")
