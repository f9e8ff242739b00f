from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from trl import GRPOConfig

from trainers.policy_config import MOVED_FIELDS, PolicyConfig, check_trainer_keys


def make(tmp_path: Path, **given: Any) -> PolicyConfig:  # fields of any type
    return PolicyConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        report_to="none",
        num_generations=4,
        per_device_train_batch_size=4,
        **given,
    )


def test_every_refused_option_exists_in_trl() -> None:
    names = {field.name for field in dataclasses.fields(GRPOConfig)}
    assert set(MOVED_FIELDS) <= names


def test_upper_epsilon_defaults_to_the_lower_one(tmp_path: Path) -> None:
    assert make(tmp_path, epsilon=0.1).clip_range == (0.1, 0.1)
    assert make(tmp_path, epsilon=0.16, epsilon_high=0.2).clip_range == (0.16, 0.2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"clip": "dacc"}, "trainer.clip='dacc' is unknown; expected one of fixed, dac"),
        ({"advantage": "x"}, "trainer.advantage='x' is unknown"),
        ({"aggregation": "x"}, "trainer.aggregation='x' is unknown"),
        ({"ratio_cap": 1.0}, "ratio_cap=1.0 must be above 1"),
        ({"ratio_cap": None}, "clip=dac needs trainer.ratio_cap"),
        ({"scale_rewards": "none"}, "no effect with trainer.advantage=sas"),
    ],
)
def test_wrong_values_are_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(tmp_path, **given)


@pytest.mark.parametrize("key", [*MOVED_FIELDS, "vllm_mode"])
def test_options_that_could_not_take_effect_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match=f"trainer.{key} could not take effect"):
        check_trainer_keys({key: 1})
