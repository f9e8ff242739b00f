import re
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from trainers.recipe_format import TRAILER, RecipeError, parse, render

GOOD = f'''#!/usr/bin/env -S accelerate launch
# Runnable recipe: the next line opens a raw string, the last line closes it.
about: r""" one line of free text
trainer:
  learning_rate: 1.0e-6
{TRAILER}
'''


def test_a_recipe_is_read_into_its_about_text_and_its_sections() -> None:
    assert parse(GOOD, "x.yaml") == ("one line of free text", {"trainer": {"learning_rate": 1e-6}})


HEADER = 'about: r""" one line of free text'
BODY = "trainer:\n  learning_rate: 1.0e-6\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((HEADER, 'about: \'r""" one line of free text\''), r"x.yaml:3: the header is changed"),
        ((HEADER, 'about: """ one line of free text'), r"x.yaml:3: the header is changed"),
        ((HEADER + "\n", ""), r"x.yaml:3: the header is missing"),
        ((HEADER, 'about: r""" '), r"x.yaml:3: the header is changed"),
        ((HEADER, f"---\n{HEADER}"), r"x.yaml:3: '---' must not stand before the header"),
        ((HEADER, f"%YAML 1.1\n---\n{HEADER}"), r"x.yaml:3: '%YAML 1.1' must not stand before"),
        ((HEADER, f"{HEADER}\n---"), r"x.yaml:4: not valid YAML: but found another document"),
        ((HEADER, f"{HEADER}: more"), r"x.yaml:3: the text of the header holds ': '"),
        ((HEADER, f"{HEADER}:"), r"x.yaml:3: the text of the header holds ': '"),
        ((HEADER, f"{HEADER} # more"), r"x.yaml:3: the text of the header holds ' #'"),
        ((HEADER, f'{HEADER} """'), r"x.yaml:3: the text of the header holds '\"\"\"'"),
        ((BODY, f'{BODY}# a """ b\n'), r"x.yaml:6: three double quotes end the recipe early"),
        ((TRAILER, ""), r"x.yaml:5: the last line must be: # \"\"\"; from trainers.launch"),
        ((TRAILER, f"{TRAILER}\nmodel: {{}}"), r"x.yaml:7: the last line must be"),
        (("  learning", "\tlearning"), r"x.yaml:5: not valid YAML: found character '\\t'"),
        ((BODY, f"{BODY}trainer: {{}}\n"), r"x.yaml:6: key 'trainer' is given twice"),
        ((BODY, f"{BODY}model: {{a: 1, a: 2}}\n"), r"x.yaml:6: key 'a' is given twice"),
        ((BODY, "- 1\n"), r"x.yaml:4: not valid YAML"),
        ((BODY, "day: 2026-13-45\n"), r"x.yaml: not valid YAML: month must be"),
    ],
)
def test_each_way_to_break_the_format_is_named_with_its_line(
    change: tuple[str, str], message: str
) -> None:
    broken = GOOD.replace(*change)
    assert broken != GOOD
    with pytest.raises(RecipeError, match=message) as caught:
        parse(broken, "x.yaml")
    assert "\n" not in str(caught.value)


def test_an_empty_file_is_not_a_recipe() -> None:
    with pytest.raises(RecipeError, match="the file is empty; expected: about"):
        parse("\n# only a comment\n", "x.yaml")


@pytest.mark.parametrize(
    "body",
    [
        "a: &x {k: 1}\nb:\n  <<: *x\n  k: 2\n",
        "text: |\n  last block\n  scalar\n",
        "text: 'back\\slash \\U \\N{x}'\n",
        "# three single quotes ''' are fine\n",
        'text: "caf\\u00e9 \\"quoted\\""\n',
        "text: caf\u00e9\n",
        "",
    ],
)
def test_what_yaml_allows_and_python_does_not_see_is_fine(body: str) -> None:
    text = GOOD.replace(BODY, BODY + body)
    assert parse(text, "x.yaml")[1] == {
        key: value for key, value in yaml.safe_load(text).items() if key != "about"
    }
    assert parse(text.rstrip("\n"), "x.yaml") == parse(text, "x.yaml")


def test_python_runs_a_recipe_down_to_its_last_line(tmp_path: Path) -> None:
    package = tmp_path / "trainers"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "launch.py").write_text(
        "import sys\ndef main(path, name):\n    print(path.endswith('x.yaml'), name, sys.argv[1:])\n"
    )
    recipe = tmp_path / "x.yaml"
    recipe.write_text(GOOD)
    run = subprocess.run(
        [sys.executable, str(recipe), "--set", "a.b=1"], capture_output=True, text=True, check=True
    )
    assert run.stdout == "True __main__ ['--set', 'a.b=1']\n"


class Colour(StrEnum):
    RED = "red"


@dataclass
class Section:
    path: Path
    pair: tuple[int, int]
    colour: Colour


def test_dataclasses_enums_tuples_and_paths_are_written_as_plain_yaml() -> None:
    section = Section(path=Path("a/b"), pair=(1, 2), colour=Colour.RED)
    assert parse(render({"model": section}, "t"), "x")[1] == {
        "model": {"path": "a/b", "pair": [1, 2], "colour": "red"}
    }


def test_small_numbers_are_written_so_that_yaml_reads_numbers() -> None:
    text = render({"trainer": {"learning_rate": 1e-6, "big": 1e22}}, "t")
    assert "learning_rate: 1.0e-06" in text
    assert parse(text, "x")[1] == {"trainer": {"learning_rate": 1e-6, "big": 1e22}}


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8)
TEXTS |= st.sampled_from(['"""', 'a"""b', '""""""', "1e-6", "no", '# """; x', "'''", "a\nb"])
KEYS = TEXTS.filter(lambda text: text not in ("about", "<<"))
VALUES = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
)


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=3))
def test_what_is_rendered_reads_back_to_the_same_mapping(mapping: dict[str, object]) -> None:
    assert parse(render(mapping, "any text"), "x.yaml") == ("any text", mapping)


def test_the_trailer_calls_the_launcher() -> None:
    assert re.fullmatch(
        r'# """; from trainers\.launch import main; main\(__file__, __name__\)', TRAILER
    )
