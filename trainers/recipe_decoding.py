"""From plain YAML values to typed dataclasses, strictly: no unknown key, no silent conversion.

pydantic validates the standard-library dataclasses as they are; this module turns its findings into
one line with file, key path, what was given, what was expected and the nearest known key.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import typing
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from trainers.recipe_format import RecipeError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

T = TypeVar("T")

_EXPECTED = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "dataclass_type": "a mapping",
    "none_required": "null",
}
_UNKNOWN_KEY = ("unexpected_keyword_argument", "extra_forbidden")
_EXPONENT = re.compile(r"([+-]?\d+)(?:\.(\d*))?[eE]([+-]?)(\d+)")


def decode(value: object, cls: type[T], *, source: str, where: str) -> T:
    """Make an instance of `cls` (a dataclass, or a list or union of them) from a YAML value.

    Args:
        value: What stands in the recipe.
        cls: The type; nested dataclasses, unions, literals, enums, lists, mappings are understood.
        source: File name for messages.
        where: Key path of `value` for messages.

    Raises:
        RecipeError: the first problem, in one line.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError  # slow to import, so only here

    strict = ConfigDict(extra="forbid", strict=True)
    # Inside a list, because pydantic takes a configuration for a bare dataclass only from the class.
    adapter = TypeAdapter(list[cls], config=strict)  # type: ignore[valid-type]  # a runtime type
    try:
        return adapter.validate_json(_json([value], source, where))[0]
    except ValidationError as error:
        details = [_Finding.of(item, value, where) for item in error.errors(include_url=False)]
        raise RecipeError(f"{source}: {_describe(details, cls, where)}") from error


def decode_keys(
    section: Mapping[str, object], cls: type, *, source: str, where: str
) -> dict[str, Any]:  # keyword arguments of `cls`
    """Check each given key against the annotation of the field of `cls`; returns keyword arguments.

    For dataclasses that cannot be decoded as a whole because some fields have foreign types
    (transformers' TrainingArguments and everything that derives from it).

    Raises:
        RecipeError: the first unknown key or wrong value, in one line.
    """
    known = [item.name for item in dataclasses.fields(cls) if item.init]
    for key in section:
        if key not in known:
            raise RecipeError(f"{source}: {where}.{key}: unknown key{nearest(key, known)}")
    hints = typing.get_type_hints(cls)
    checked = {}
    for key, value in section.items():
        decoded = decode(value, hints[key], source=source, where=f"{where}.{key}")
        checked[key] = value if decoded == value else decoded  # 80 stays 80 where a float may stand
    return checked


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint with the known word most like `word`, or with all of them if none is alike."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known: {', '.join(words)}" if 0 < len(words) <= 30 else ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Finding:
    """One problem that pydantic found."""

    kind: str
    """pydantic's error type."""
    path: tuple[str, ...]
    """Keys and indices below the decoded value."""
    member: tuple[str, ...]
    """Labels of the union members that were tried, empty outside unions."""
    given: object
    expected: str

    @classmethod
    def of(cls, error: ErrorDetails, value: object, where: str) -> _Finding:
        """Split pydantic's location, which mixes keys with labels of union members."""
        path: list[str] = []
        member: list[str] = []
        here = value
        steps = error["loc"][1:]  # without the index in the wrapping list
        for number, step in enumerate(steps):
            adds_key = error["type"] in ("missing", *_UNKNOWN_KEY) and number == len(steps) - 1
            inside, below = _step(here, step)
            if inside or adds_key:
                path.append(str(step))
                here = below
            else:
                member.append(str(step))
        return cls(
            kind=error["type"],
            path=tuple(path),
            member=tuple(member),
            given=error["input"],
            expected=_expected(error),
        )


def _step(here: object, step: str | int) -> tuple[bool, object]:
    """Whether `step` is a key or an index of `here`, and what lies there."""
    if isinstance(here, list) and isinstance(step, int) and step < len(here):
        return True, here[step]
    if isinstance(here, dict):
        for key, item in here.items():
            if str(key) == str(step):
                return True, item
    return False, None


def _expected(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    if error["type"] == "value_error":
        return str(context["error"])
    if "expected" in context:
        return f"one of {context['expected']}"
    return _EXPECTED.get(error["type"], error["msg"])


def _describe(findings: list[_Finding], cls: type, where: str) -> str:
    """One line about the most telling problem."""
    chosen = _best_member(findings)
    # A misspelt key is also a missing one: the misspelling is the better news.
    first = next((x for x in chosen if x.kind in _UNKNOWN_KEY), chosen[0])
    path = ".".join((where, *first.path))
    if first.kind == "value_error":
        return first.expected if first.expected.startswith(where) else f"{path}: {first.expected}"
    if first.kind in _UNKNOWN_KEY:
        known = _known_keys(cls, first.path[:-1], first.member)
        return f"{path}: unknown key{nearest(first.path[-1], known)}"
    if first.kind == "missing":
        return f"{path} is missing and has no default; add it"
    expected = " or ".join(dict.fromkeys(x.expected for x in chosen if x.path == first.path))
    return f"{path}={_shown(first.given)}, expected {expected}{_number_hint(first.given, expected)}"


def _best_member(findings: list[_Finding]) -> list[_Finding]:
    """The problems of the union member that fits best.

    Best: its `type` literal matches, then it got deepest, then it has fewest problems. Findings of
    other members at the same place (neither an integer nor text) are added, so that the message
    can name all that is expected.
    """
    groups: dict[tuple[str, ...], list[_Finding]] = {}
    for item in findings:
        groups.setdefault(item.member, []).append(item)
    best = min(
        groups.values(),
        key=lambda group: (_is_other_type(group), -max(len(x.path) for x in group), len(group)),
    )
    others = [
        x
        for group in groups.values()
        for x in group
        if group is not best
        and _is_other_type(group) == _is_other_type(best)
        and x.path == best[0].path
        and x.kind not in ("missing", "value_error", *_UNKNOWN_KEY)
    ]
    return best + others


def _is_other_type(group: list[_Finding]) -> bool:
    """Whether the recipe names another union member with its `type` key."""
    return any(x.kind == "literal_error" and x.path[-1:] == ("type",) for x in group)


def _known_keys(cls: type, path: tuple[str, ...], member: tuple[str, ...]) -> list[str]:
    """Field names of the dataclasses that may stand at `path` below `cls`."""
    types = _alternatives(cls)
    for part in path:
        types = [x for owner in types for x in _child_types(owner, part)]
    owners = [x for x in types if dataclasses.is_dataclass(x)]
    named = [x for x in owners if x.__name__ in member]
    return [item.name for owner in named or owners for item in dataclasses.fields(owner)]


def _child_types(owner: type, part: str) -> list[type]:
    if dataclasses.is_dataclass(owner):
        return _alternatives(typing.get_type_hints(owner).get(part, type(None)))
    return [x for item in typing.get_args(owner)[-1:] for x in _alternatives(item)]


def _alternatives(annotation: Any) -> list[type]:  # any annotation
    """The members of a union (also inside Annotated), or the type itself."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _alternatives(typing.get_args(annotation)[0])
    if type(annotation).__name__ in ("UnionType", "Union", "_UnionGenericAlias"):
        return [x for item in typing.get_args(annotation) for x in _alternatives(item)]
    return [annotation]


def _number_hint(given: object, expected: str) -> str:
    """How to write a value that YAML read as another type."""
    if isinstance(given, bool) and "text" in expected:
        return "; YAML reads yes, no, on and off as true or false, so quote the word"
    if not isinstance(given, str) or not ("number" in expected or "integer" in expected):
        return ""
    match = _EXPONENT.fullmatch(given)
    if match:
        whole, fraction, sign, exponent = match.groups()
        return (
            f"; YAML reads it as text, write {whole}.{fraction or '0'}e{sign or '+'}{int(exponent)}"
        )
    return "; leave the quotes out" if re.fullmatch(r"[+-]?\d+(\.\d*)?", given) else ""


def _shown(given: object) -> str:
    text = json.dumps(given, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _json(value: object, source: str, where: str) -> str:
    """JSON text of a YAML value: in JSON, pydantic's strict mode takes mappings for dataclasses."""
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"{source}: {where}: {error}; quote dates, and use text, numbers, lists, mappings only"
        ) from error
