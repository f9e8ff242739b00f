from dataclasses import dataclass
from pathlib import Path

import pytest

from trainers.recipe import (
    RecipeError,
    decode_section,
    decode_trainer_section,
    read_recipe,
    write_recipe,
)
from trainers.recipe_format import TRAILER

BODY = """
model:
  path: ./checkpoint
data:
  train: ../data/train.jsonl
  name: plain/name
rollout:
rewards:
  - type: math_answer
"""


def recipe_file(folder: Path, body: str = BODY, newline: str = "\n", start: bytes = b"") -> Path:
    path = folder / "x.yaml"
    text = f'about: r""" some text\n{body.strip()}\n{TRAILER}\n'
    path.write_bytes(start + text.replace("\n", newline).encode())
    return path


@dataclass(kw_only=True)
class Rollout:
    width: int = 4


@dataclass(kw_only=True)
class Reward:
    type: str


def test_sections_are_read_and_dotted_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    raw = read_recipe(recipe_file(folder))
    assert raw.about == "some text"
    assert raw.kind == "train"
    assert raw.sections["model"] == {"path": str(folder / "checkpoint")}
    assert raw.sections["data"] == {
        "train": str(tmp_path / "data/train.jsonl"),
        "name": "plain/name",
    }


def test_dotted_paths_of_an_override_are_relative_to_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    raw = read_recipe(recipe_file(tmp_path / "recipes"), ["model.path=./mine"])
    assert raw.sections["model"] == {"path": str(tmp_path / "mine")}


def test_line_ends_and_byte_order_mark_of_other_systems_are_accepted(tmp_path: Path) -> None:
    plain = read_recipe(recipe_file(tmp_path)).sections
    assert (
        read_recipe(recipe_file(tmp_path, newline="\r\n", start=b"\xef\xbb\xbf")).sections == plain
    )


def test_an_empty_or_absent_section_means_its_defaults(tmp_path: Path) -> None:
    raw = read_recipe(recipe_file(tmp_path))
    assert decode_section(raw, "rollout", Rollout) == Rollout(width=4)
    assert decode_section(raw, "evaluation", Rollout) == Rollout(width=4)
    assert decode_section(raw, "evaluation", list[Reward]) == []
    assert decode_section(raw, "rewards", list[Reward]) == [Reward(type="math_answer")]


def test_the_trainer_section_becomes_keyword_arguments(tmp_path: Path) -> None:
    raw = read_recipe(recipe_file(tmp_path), ["trainer.width=3"])
    assert decode_trainer_section(raw, Rollout) == {"width": 3}
    with pytest.raises(
        RecipeError, match=r"x.yaml: trainer.widht: unknown key; did you mean width\?"
    ):
        decode_trainer_section(read_recipe(raw.path, ["trainer.widht=3"]), Rollout)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["kind=tain"], "kind='tain', expected one of train, warmstart"),
        (["rolout.width=8"], "rolout: unknown section; did you mean rollout?"),
        (["rollout=8"], "rollout=8, expected a section with keys below it"),
    ],
)
def test_wrong_sections_are_named(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(recipe_file(tmp_path), overrides)
    assert str(caught.value) == f"{tmp_path / 'x.yaml'}: {message}"


def test_a_missing_or_unreadable_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no.yaml: cannot be read from .*: No such file"):
        read_recipe(tmp_path / "no.yaml")
    with pytest.raises(RecipeError, match="not UTF-8 text at byte 0"):
        read_recipe(recipe_file(tmp_path, start=b"\xff\xfe"))
    with pytest.raises(RecipeError, match="there is no section"):
        read_recipe(recipe_file(tmp_path, body="kind: train"))


def test_a_written_recipe_reads_back_to_the_same_recipe(tmp_path: Path) -> None:
    raw = read_recipe(recipe_file(tmp_path), ["trainer.learning_rate=1.0e-6"])
    copy = tmp_path / "run" / "recipe.yaml"
    write_recipe(raw.mapping(), raw.about, copy)
    again = read_recipe(copy)
    assert (again.about, again.kind, again.sections) == (raw.about, raw.kind, raw.sections)
    assert [path.name for path in copy.parent.iterdir()] == ["recipe.yaml"]


def test_nothing_is_written_if_the_text_would_break_the_header(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="the text of the header holds ': '"):
        write_recipe({"model": {}}, "a: b", tmp_path / "r.yaml")
    assert not (tmp_path / "r.yaml").exists()
