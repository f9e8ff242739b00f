from pathlib import Path
from typing import Any

import pytest

from trainers import launch_checks
from trainers.launch_checks import check_environment, check_world_size, settle_device
from trainers.recipe import RawRecipe, RecipeError


def recipe(kind: str = "train", **trainer: Any) -> RawRecipe:
    return RawRecipe(path=Path("x.yaml"), about="t", kind=kind, sections={"trainer": trainer})


def set_devices(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(launch_checks, "num_accelerators", lambda: count)


ACCELERATE_CPU_2 = {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1"}


def test_two_cpu_processes_of_which_one_was_started_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"starts only one; use: .*cpu_2.yaml"):
        check_environment(recipe(), ACCELERATE_CPU_2)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"ACCELERATE_USE_CPU": "True"},
        {"ACCELERATE_USE_CPU": "False", "MASTER_ADDR": "10.0.0.1"},
        {**ACCELERATE_CPU_2, "RANK": "0", "WORLD_SIZE": "2"},
    ],
)
def test_other_environments_pass(environ: dict[str, str]) -> None:
    check_environment(recipe(), environ)


def test_a_warm_start_in_two_processes_is_refused() -> None:
    environ = {"RANK": "0", "WORLD_SIZE": "2"}
    with pytest.raises(RecipeError, match=r"kind=warmstart runs in one process, .* started 2"):
        check_environment(recipe("warmstart"), environ)
    check_environment(recipe("warmstart"), {})


def test_without_a_gpu_the_cpu_is_used_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    set_devices(monkeypatch, 0)
    settled = settle_device(recipe(max_steps=1), {})
    assert settled.sections["trainer"] == {"max_steps": 1, "use_cpu": True, "bf16": False}


def test_with_a_gpu_the_recipe_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    set_devices(monkeypatch, 1)
    raw = recipe(bf16=True)
    assert settle_device(raw, {}) is raw


def test_accelerates_wish_for_the_cpu_reaches_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    set_devices(monkeypatch, 1)
    settled = settle_device(recipe(), {"ACCELERATE_USE_CPU": "True"})
    assert settled.sections["trainer"] == {"use_cpu": True, "bf16": False}


def test_mixed_precision_on_the_cpu_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    set_devices(monkeypatch, 0)
    settled = settle_device(recipe(use_cpu=True, bf16=True), {})
    assert settled.sections["trainer"] == {"use_cpu": True, "bf16": True}


@pytest.mark.parametrize(
    ("trainer", "asked"),
    [
        ({"use_cpu": False}, "use_cpu=false"),
        ({"bf16": True}, "bf16=true"),
        ({"fp16": True}, "fp16"),
    ],
)
def test_a_recipe_that_asks_for_a_gpu_on_a_machine_without_one_is_refused(
    monkeypatch: pytest.MonkeyPatch, trainer: dict[str, Any], asked: str
) -> None:
    set_devices(monkeypatch, 0)
    with pytest.raises(RecipeError, match=f"x.yaml: trainer.{asked}.* this machine shows none"):
        settle_device(recipe(**trainer), {})


def test_more_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    set_devices(monkeypatch, 2)
    with pytest.raises(RecipeError, match="4 processes on this machine, which has 2 device"):
        settle_device(recipe(), {"LOCAL_WORLD_SIZE": "4"})
    settle_device(recipe(), {"LOCAL_WORLD_SIZE": "2"})
    settle_device(recipe(use_cpu=True), {"LOCAL_WORLD_SIZE": "4"})


def test_a_warm_start_chooses_its_device_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    set_devices(monkeypatch, 0)
    raw = RawRecipe(path=Path("x"), about="t", kind="warmstart", sections={"warmstart": {}})
    assert settle_device(raw, {}) is raw


def test_processes_that_do_not_see_each_other_are_refused() -> None:
    with pytest.raises(RecipeError, match="started 2 processes, but this one sees 1"):
        check_world_size(1, {"WORLD_SIZE": "2"})
    check_world_size(2, {"WORLD_SIZE": "2"})
    check_world_size(1, {})
