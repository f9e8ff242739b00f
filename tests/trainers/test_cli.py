import argparse
import dataclasses
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

import trainers
from trainers import cli, launch
from trainers.recipe import RawRecipe, RecipeError
from trainers.recipe_format import TRAILER


def recipe_file(folder: Path, name: str = "x.yaml", trailer: str = TRAILER) -> str:
    path = folder / name
    path.write_text(f'about: r""" a test\nmodel:\n  path: a\n{trailer}\n')
    return str(path)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(name: str, **attributes: object) -> None:
        module = types.ModuleType(name)
        module.__dict__.update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(trainers, name.rpartition(".")[2], module, raising=False)

    return install


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [name for name in cli._COMMANDS if f"\n  {name} " not in shown] == []


def test_no_command_is_wrong_use() -> None:
    assert cli.main([]) == 2


def test_an_unknown_command_gives_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trian"]) == 2
    assert capsys.readouterr().err == "error: unknown command trian; did you mean train?\n"


def test_train_is_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(launch, "main", lambda *given: calls.append(given))
    assert cli.main(["train", "a.yaml", "--dry_run"]) == 0
    assert calls == [(None, "__main__", ["a.yaml", "--dry_run"])]


def test_lint_passes_good_recipes_and_names_bad_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = recipe_file(tmp_path), recipe_file(tmp_path, "bad.yaml", trailer="")
    assert cli.main(["lint", "--format_only", good]) == 0
    assert cli.main(["lint", "--format_only", bad, good]) == 1
    shown = capsys.readouterr()
    assert shown.out == f"ok: {good}\nok: {good}\n"
    assert f"error: {bad}:3: the last line must be" in shown.err


def test_lint_checks_the_values_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stand_in: Callable[..., None]
) -> None:
    def check(raw: RawRecipe) -> None:
        raise RecipeError(f"{raw.path}: model.path: no such folder")

    stand_in("trainers.build", check=check)
    assert cli.main(["lint", recipe_file(tmp_path)]) == 1
    assert "x.yaml: model.path: no such folder" in capsys.readouterr().err


def test_eval_hands_its_arguments_on(stand_in: Callable[..., None]) -> None:
    calls: list[argparse.Namespace] = []
    stand_in("trainers.evaluation_run", main=calls.append)
    assert cli.main(["eval", "runs/a/final", "--k", "8", "--temperature", "0.7", "--json"]) == 0
    assert vars(calls[0]) == {
        "checkpoint": "runs/a/final",
        "data": None,
        "num_prompts": None,
        "k": 8,
        "temperature": 0.7,
        "max_new_tokens": None,
        "seed": None,
        "recipe": None,
        "json": True,
    }


def test_the_flags_of_serve_are_fields_of_its_options() -> None:
    from inference.server.app import ServeOptions

    flags = {action.dest for action in cli._serve_parser()._actions} - {"help"}
    # The key is read from the environment: a flag would show it in the process list.
    assert flags == {item.name for item in dataclasses.fields(ServeOptions)} - {"api_key"}


def test_serve_passes_only_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    from inference.server import app

    calls: list[app.ServeOptions] = []
    monkeypatch.setattr(app, "serve", calls.append)
    assert cli.main(["serve", "runs/a/final", "--port", "0", "--api_name", "mine"]) == 0
    assert calls == [app.ServeOptions(checkpoint="runs/a/final", port=0, model_name="mine")]


def test_a_wrong_option_of_serve_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "x", "--port", "99999"]) == 2
    assert capsys.readouterr().err.startswith("error: port=99999 is outside 0..65535")


def test_packages_that_are_shadowed_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def shadowed() -> None:
        raise ImportError("package 'rewards' was found elsewhere")

    monkeypatch.setattr(cli.siblings, "check", shadowed)
    assert cli.main(["eval", "x"]) == 2
    assert capsys.readouterr().err == "error: package 'rewards' was found elsewhere\n"
