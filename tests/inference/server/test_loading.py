from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from inference.server.loading import load_policy, pick_device, stop_token_ids


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def refusal(folder: Path) -> str:
    with pytest.raises(ValueError) as caught:
        load_policy(str(folder), device="cpu")
    message = str(caught.value)
    assert str(folder) in message and "\n" not in message
    return message


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "nothing")


def test_a_file_is_no_checkpoint(copy: Path) -> None:
    assert "is a file" in refusal(copy / "config.json")


def test_a_folder_without_config_is_no_checkpoint(tmp_path: Path) -> None:
    assert "has no config.json, so it is no checkpoint" in refusal(tmp_path)


def test_a_run_folder_points_to_its_checkpoint(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    copy.rename(tmp_path / "run" / "checkpoint-40")
    assert "checkpoint-40" in refusal(tmp_path / "run")


def test_an_adapter_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "merge it" in refusal(tmp_path)


def test_an_unsupported_type_is_refused_before_weights_are_read(copy: Path) -> None:
    (copy / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    (copy / "model.safetensors").write_bytes(b"not weights")
    assert "cannot run model type 'mamba'" in refusal(copy)


def test_an_unknown_type_is_refused(copy: Path) -> None:
    (copy / "config.json").write_text(json.dumps({"model_type": "no_such_model"}))
    assert "config cannot be loaded" in refusal(copy)


@pytest.mark.parametrize(
    ("missing", "what"), [("model.safetensors", "weights"), ("tokenizer.json", "tokenizer")]
)
def test_an_incomplete_checkpoint_says_what_is_missing(copy: Path, missing: str, what: str) -> None:
    (copy / missing).unlink()
    assert f"the {what} cannot be loaded" in refusal(copy)


def test_damaged_weights_are_refused(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0damaged!")
    assert "the weights cannot be loaded" in refusal(copy)


def test_missing_tensors_are_not_drawn_at_random(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert "1 tensors are missing, the first is model.norm.weight" in refusal(copy)


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ValueError, match="device=abacus cannot be used"):
        pick_device("abacus")


def test_stop_tokens_are_those_of_the_model_and_of_the_tokenizer(
    policy: tuple[PreTrainedModel, PreTrainedTokenizerBase], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = policy
    monkeypatch.setattr(model.generation_config, "eos_token_id", [7, 9])
    assert stop_token_ids(model, tokenizer) == (tokenizer.eos_token_id, 7, 9)
