from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import pytest

from trainers.recipe_decoding import decode, decode_keys, nearest
from trainers.recipe_format import RecipeError


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Even:
    type: Literal["even"] = "even"
    share: float = 0.5
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighted:
    type: Literal["weighted"]
    temperature: float = 1.0
    scale: str = "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    page_size: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    width: int
    rate: float = 1.0
    name: str = "x"
    is_on: bool = False
    limit: int | None = None
    modules: list[str] | Literal["all"] = "all"
    colour: Colour = Colour.RED
    cache: Cache = field(default_factory=Cache)
    branching: Even | Weighted = field(default_factory=Even)
    lengths: tuple[int, ...] = ()
    caches: list[Cache] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"rollout.width={self.width} must be at least 1")
        if self.name == "bad":
            raise ValueError("the name is bad")


def test_every_kind_of_field_is_decoded() -> None:
    value = {
        "width": 8,
        "rate": 2,
        "name": "n",
        "is_on": True,
        "limit": None,
        "modules": ["q", "v"],
        "colour": "blue",
        "cache": {"page_size": 32},
        "branching": {"type": "weighted", "temperature": 0.5},
        "lengths": [1, 2],
        "caches": [{"page_size": 1}, {}],
        "extra": {"any": [1, "a", None]},
    }
    assert decode(value, Settings, source="f", where="rollout") == Settings(
        width=8,
        rate=2.0,
        name="n",
        is_on=True,
        modules=["q", "v"],
        colour=Colour.BLUE,
        cache=Cache(page_size=32),
        branching=Weighted(type="weighted", temperature=0.5),
        lengths=(1, 2),
        caches=[Cache(page_size=1), Cache()],
        extra={"any": [1, "a", None]},
    )


def test_a_list_of_dataclasses_is_decoded() -> None:
    assert decode([{}, {"page_size": 4}], list[Cache], source="f", where="x") == [
        Cache(),
        Cache(page_size=4),
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"widht": 8}, "f.yaml: rollout.widht: unknown key; did you mean width?"),
        ({}, "f.yaml: rollout.width is missing and has no default; add it"),
        ({"width": "8"}, 'f.yaml: rollout.width="8", expected an integer; leave the quotes out'),
        ({"width": 8.5}, "f.yaml: rollout.width=8.5, expected an integer"),
        ({"width": 8.0}, "f.yaml: rollout.width=8.0, expected an integer"),
        ({"width": True}, "f.yaml: rollout.width=true, expected an integer"),
        ({"width": None}, "f.yaml: rollout.width=null, expected an integer"),
        (
            {"width": 8, "rate": "1e-6"},
            'f.yaml: rollout.rate="1e-6", expected a number; YAML reads it as text, write 1.0e-6',
        ),
        (
            {"width": 8, "rate": "2.5E05"},
            'f.yaml: rollout.rate="2.5E05", expected a number; YAML reads it as text, write 2.5e+5',
        ),
        (
            {"width": 8, "name": False},
            "f.yaml: rollout.name=false, expected text; YAML reads yes, no, on and off as true or "
            "false, so quote the word",
        ),
        ({"width": 8, "is_on": 1}, "f.yaml: rollout.is_on=1, expected true or false"),
        ({"width": 8, "limit": "a"}, 'f.yaml: rollout.limit="a", expected an integer'),
        ({"width": 8, "modules": 5}, "f.yaml: rollout.modules=5, expected a list or one of 'all'"),
        ({"width": 8, "modules": [5]}, "f.yaml: rollout.modules.0=5, expected text"),
        (
            {"width": 8, "colour": "rde"},
            "f.yaml: rollout.colour=\"rde\", expected one of 'red' or 'blue'",
        ),
        ({"width": 8, "cache": 3}, "f.yaml: rollout.cache=3, expected a mapping"),
        (
            {"width": 8, "cache": {"page": 3}},
            "f.yaml: rollout.cache.page: unknown key; did you mean page_size?",
        ),
        (
            {"width": 8, "caches": [{}, {"zzz": 3}]},
            "f.yaml: rollout.caches.1.zzz: unknown key; known: page_size",
        ),
        (
            {"width": 8, "branching": {"type": "weighted", "temprature": 1}},
            "f.yaml: rollout.branching.temprature: unknown key; did you mean temperature?",
        ),
        (
            {"width": 8, "branching": {"type": "weighted", "temperature": "hot"}},
            'f.yaml: rollout.branching.temperature="hot", expected a number',
        ),
        (
            {"width": 8, "branching": {"type": "weighted", "share": 1}},
            "f.yaml: rollout.branching.share: unknown key; did you mean scale?",
        ),
        (
            {"width": 8, "branching": {"type": "other"}},
            "f.yaml: rollout.branching.type=\"other\", expected one of 'even' or one of 'weighted'",
        ),
        (
            {"width": 8, "branching": {"type": "weighted", "scale": [1]}},
            "f.yaml: rollout.branching.scale=[1], expected text",
        ),
        ({"width": 8, "lengths": 4}, "f.yaml: rollout.lengths=4, expected a list"),
        ({"width": 0}, "f.yaml: rollout.width=0 must be at least 1"),
        ({"width": 8, "name": "bad"}, "f.yaml: rollout: the name is bad"),
        (7, "f.yaml: rollout=7, expected a mapping"),
    ],
)
def test_a_wrong_value_gives_one_line_that_says_what_to_change(given: object, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        decode(given, Settings, source="f.yaml", where="rollout")
    assert str(caught.value) == message


def test_a_date_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"x: Object of type date .* quote dates"):
        decode(datetime.date(2026, 1, 1), str, source="f", where="x")


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(RecipeError) as caught:
        decode({"width": "9" * 1000}, Settings, source="f", where="rollout")
    assert len(str(caught.value)) < 150


def test_the_nearest_word_is_named_or_else_all_words() -> None:
    assert nearest("widht", ["width", "depth"]) == "; did you mean width?"
    assert nearest("zzz", ["width", "depth"]) == "; known: depth, width"
    assert nearest("zzz", [f"k{i}" for i in range(31)]) == ""


@pytest.fixture(scope="module")
def grpo_config() -> type:
    from trl import GRPOConfig

    return GRPOConfig


def test_the_keys_of_trls_config_are_checked_one_by_one(grpo_config: type) -> None:
    section = {
        "learning_rate": 1e-6,
        "max_steps": 10,
        "bf16": False,
        "lr_scheduler_type": "cosine",
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "epsilon_high": None,
        "save_steps": 5,
        "warmup_steps": 0.1,
        "reward_weights": [1, 2.0],
    }
    decoded = decode_keys(section, grpo_config, source="f", where="trainer")
    assert decoded == section
    assert repr(decoded) == repr(section)  # 5 stays 5, not 5.0, in the resolved recipe


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"learning_rte": 1.0},
            "f: trainer.learning_rte: unknown key; did you mean learning_rate?",
        ),
        (
            {"learning_rate": "1e-6"},
            'f: trainer.learning_rate="1e-6", expected a number; YAML reads it as text, write 1.0e-6',
        ),
        ({"max_steps": 1.5}, "f: trainer.max_steps=1.5, expected an integer"),
        ({"reward_weights": 3}, "f: trainer.reward_weights=3, expected a list"),
        ({"learning_rate": [1]}, "f: trainer.learning_rate=[1], expected a number"),
        ({"_n_gpu": 2}, "f: trainer._n_gpu: unknown key"),
    ],
)
def test_a_wrong_trainer_key_gives_one_line(
    grpo_config: type, section: dict[str, object], message: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        decode_keys(section, grpo_config, source="f", where="trainer")
    assert str(caught.value).startswith(message)


def test_every_field_of_trls_config_has_a_type_that_can_be_checked(grpo_config: type) -> None:
    import dataclasses

    for item in dataclasses.fields(grpo_config):
        if item.init and item.name != "parallelism_config":  # a class of accelerate
            with pytest.raises(RecipeError, match=f"^f: t.{item.name}="):
                decode_keys(
                    {item.name: {"a": {1: {}}} if "dict" not in str(item.type) else 3.5},
                    grpo_config,
                    source="f",
                    where="t",
                )
