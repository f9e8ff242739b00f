'''The text of a recipe: YAML that is also a Python program, so that `accelerate launch` can run it.

    # comments                                                     Python: comments
    about: r""" one line of free text                              Python: opens a raw string ...
    trainer:                                                         ... that holds all the YAML ...
      learning_rate: 1.0e-6
    # """; from trainers.launch import main; main(__file__, __name__)   ... and ends here; then a call

YAML sees comments and a mapping whose first entry is `about`. A formatter that quotes the header, or a
`yaml.safe_dump` of the mapping, breaks the Python half: hence the checks below and `render`.
'''

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any

import yaml

TRAILER = '# """; from trainers.launch import main; main(__file__, __name__)'
_OPENING = 'about: r"""'
_HEADER = re.compile(r'about: r""" (?P<about>\S.*)')
_QUOTES = '"""'

Tree = dict[str, Any]
"""A YAML mapping: text keys, values of any YAML type."""


class RecipeError(ValueError):
    """A recipe cannot be used; the message is one line with file, key, value and remedy."""


def parse(text: str, source: str) -> tuple[str, Tree]:
    """Return the `about` text and the mapping of a recipe, or say what is wrong with its format.

    Args:
        text: The whole file, line ends normalised to newlines, without byte-order mark.
        source: File name for messages.

    Raises:
        RecipeError: header, trailer, quotes, YAML or Python half is broken.
    """
    about = _check_frame(text, source)
    mapping = load_yaml(text, source)
    if not isinstance(mapping, dict):
        raise RecipeError(
            f"{source}: a recipe is a mapping of sections, got {type(mapping).__name__}"
        )
    try:
        compile(text, source, "exec")
    except (SyntaxError, ValueError) as error:
        raise RecipeError(f"{source}: the recipe is not a Python program: {error}") from error
    mapping.pop("about")
    return about, mapping


def load_yaml(text: str, source: str) -> Any:  # any YAML value
    """Load one YAML document; a key that is given twice is an error.

    Raises:
        RecipeError: one line with the position.
    """
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            _refuse_duplicates(node, source, set())
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RecipeError(f"{source}{line}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, RecipeError):
            raise
        raise RecipeError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from error


def render(mapping: Mapping[str, object], about: str) -> str:
    """Write a runnable recipe that reads back to the same mapping.

    Args:
        mapping: Sections. Dataclasses, enums, tuples and paths are written as plain YAML.
        about: One line of free text without ": " and " #".

    Raises:
        RecipeError: the result would not be a recipe.
    """
    body = yaml.dump(
        plain(mapping), Dumper=_RecipeDumper, sort_keys=False, allow_unicode=True, width=100
    )
    return f"{_OPENING} {about}\n{body}{TRAILER}\n"


def plain(value: object) -> Any:  # any YAML value
    """Turn dataclasses, enums, tuples and paths into mappings, text and lists, recursively."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return plain(value.value)
    return str(value) if isinstance(value, PurePath) else value


def _check_frame(text: str, source: str) -> str:
    """Check header, trailer and quotes; returns the `about` text."""
    lines = text.rstrip().split("\n")
    first = next((i for i, x in enumerate(lines) if x.strip() and not x.startswith("#")), None)
    header = _HEADER.fullmatch(lines[first].rstrip()) if first is not None else None
    if first is None or header is None:
        given = "" if first is None else f":{first + 1}: {_header_hint(lines[first])}"
        raise RecipeError(
            f"{source}{given or ': the file is empty'}; expected: {_OPENING} one line of text"
        )
    if lines[-1] != TRAILER:
        raise RecipeError(f"{source}:{len(lines)}: the last line must be: {TRAILER}")
    for number, line in enumerate(lines[first + 1 : -1], start=first + 2):
        if _QUOTES in line:
            raise RecipeError(
                f"{source}:{number}: three double quotes end the recipe early; use ''' or a word"
            )
    return _check_about(header["about"], f"{source}:{first + 1}")


def _header_hint(line: str) -> str:
    if line.startswith(("---", "%")):
        return f"'{line.strip()}' must not stand before the header, Python cannot read it"
    if line.startswith("about:"):
        return "the header is changed (quoted by a formatter, r missing, or text missing)"
    return "the header is missing, the first line that is no comment is something else"


def _check_about(about: str, source: str) -> str:
    for text in (": ", " #", _QUOTES):
        if text in f"{about} ":
            raise RecipeError(
                f"{source}: the text of the header holds '{text}', which ends it; leave it out"
            )
    return about


def _refuse_duplicates(node: yaml.Node | None, source: str, seen: set[int]) -> None:
    """Raise at the first mapping key that stands twice (PyYAML would silently take the last)."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_duplicates(item, source, seen)
    elif isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in keys and key.value != "<<":
                line = key.start_mark.line + 1
                raise RecipeError(f"{source}:{line}: key '{key.value}' is given twice; keep one")
            keys.add(str(key.value))
            _refuse_duplicates(value, source, seen)


class _RecipeDumper(yaml.SafeDumper):
    """Escapes three double quotes, which would end the Python string early; no anchors."""

    def ignore_aliases(self, data: object) -> bool:
        """Write repeated objects out."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = '"' if _QUOTES in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_RecipeDumper.add_representer(str, _represent_text)
