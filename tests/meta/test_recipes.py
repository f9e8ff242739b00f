"""Every recipe and every accelerate configuration that is shipped."""

from pathlib import Path

import pytest
import yaml

from trainers.recipe import read_recipe

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
CONFIGS = sorted((ROOT / "accelerate_configs").glob("*.yaml"))


def test_there_are_recipes() -> None:
    assert RECIPES != []


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_decodes_and_its_checks_pass(path: Path) -> None:
    from trainers import build

    build.check(read_recipe(path))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_names_the_command_that_runs_it(path: Path) -> None:
    comments = [x for x in path.read_text(encoding="utf-8").splitlines() if x.startswith("#")]
    assert any(f"recipes/{path.name}" in line for line in comments)


def test_recipes_is_no_package() -> None:
    assert list((ROOT / "recipes").glob("*.py")) == []


def test_the_documented_accelerate_configs_are_there() -> None:
    assert {path.stem for path in CONFIGS} == {
        "cpu_1",
        "cpu_2",
        "ddp",
        "gpu_1",
        "multinode_zero3",
        "zero2",
        "zero3",
        "zero3_offload",
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_an_accelerate_config_is_accepted_and_leaves_the_precision_to_the_recipe(
    path: Path,
) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    assert config.mixed_precision == "no"
    assert config.num_processes >= 1


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_an_accelerate_config_names_its_command_and_hardware(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert f"accelerate launch --config_file accelerate_configs/{path.name}" in text
    assert "# Hardware: " in text


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_zero_3_saves_weights_that_can_be_loaded(path: Path) -> None:
    section = yaml.safe_load(path.read_text()).get("deepspeed_config", {})
    if section.get("zero_stage") == 3:
        assert section["zero3_save_16bit_model"] is True
    if section:
        assert section["deepspeed_multinode_launcher"] == "standard"  # needs no ssh
