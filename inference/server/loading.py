"""Loading what is served: a checkpoint folder or a hub id, checked before any weight is read.

Everything wrong with a checkpoint is a `ValueError` of one line that names the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from inference.supported import UnsupportedModelError, check_supported

DTYPES: dict[str, str | torch.dtype] = {
    "auto": "auto",  # as stored
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
T = TypeVar("T")


def load_policy(
    checkpoint: str, dtype: str = "auto", device: str = "auto"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer.

    Args:
        checkpoint: A folder with config.json, weights and tokenizer, or a hub id.
        dtype: One of `DTYPES`; "auto" takes the dtype in which the weights are stored.
        device: A torch device, or "auto": the GPU if there is one.

    Returns:
        The model in eval mode on `device`, and the tokenizer.

    Raises:
        ValueError: the folder is missing, is no checkpoint or is incomplete, or the model type is
            not supported; found before weights are read, except for damaged weights.
    """
    check_folder(checkpoint)
    config = _read(checkpoint, "config", lambda: AutoConfig.from_pretrained(checkpoint))
    _check_model_type(checkpoint, config)
    tokenizer = _read(checkpoint, "tokenizer", lambda: AutoTokenizer.from_pretrained(checkpoint))
    model = _read(checkpoint, "weights", lambda: _load_weights(checkpoint, dtype))
    model.to(pick_device(device))  # type: ignore[arg-type]  # a decorator hides the signature
    return model.eval(), tokenizer


def check_folder(checkpoint: str) -> None:
    """Refuse a path that is no checkpoint folder; a hub id passes.

    Raises:
        ValueError: with what to do.
    """
    folder = Path(checkpoint)
    if not folder.exists():
        if checkpoint.startswith((".", "/", "~")) or checkpoint.count("/") > 1:
            raise ValueError(f"checkpoint {checkpoint}: no such folder")
        return
    if not folder.is_dir():
        raise ValueError(f"checkpoint {checkpoint} is a file; give the folder that holds it")
    if not (folder / "config.json").is_file():
        raise ValueError(f"checkpoint {checkpoint} has no config.json{_advice(folder)}")


def stop_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Tokens that end an answer: those of the generation config and the tokenizer's eos."""
    wanted = getattr(model.generation_config, "eos_token_id", None)
    ids = set(wanted if isinstance(wanted, list) else [wanted])
    return tuple(sorted((ids | {tokenizer.eos_token_id}) - {None}))


def context_tokens(model: PreTrainedModel) -> int | None:
    """Positions the model was made for, None when its config does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def pick_device(device: str) -> torch.device:
    """The torch device that a name means.

    Raises:
        ValueError: the device is unknown or absent.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA asserts
        raise ValueError(f"device={device} cannot be used: {_first_line(error)}") from error


def _advice(folder: Path) -> str:
    """What to do about a folder without config.json."""
    if (folder / "adapter_config.json").is_file():
        return "; it holds an adapter: merge it into its base model and serve the result"
    inside = sorted(folder.glob("checkpoint-*/config.json"), key=lambda path: path.stat().st_mtime)
    if inside:
        return f"; it is a run with checkpoints: serve for example {inside[-1].parent}"
    return ", so it is no checkpoint; give a folder written by training or save_pretrained"


def _check_model_type(checkpoint: str, config: PretrainedConfig) -> None:
    try:
        check_supported(config)
    except UnsupportedModelError as error:
        raise ValueError(f"checkpoint {checkpoint}: {error}") from error


def _load_weights(checkpoint: str, dtype: str) -> PreTrainedModel:
    loaded: Any = AutoModelForCausalLM.from_pretrained(  # a pair, which its annotation denies
        checkpoint, dtype=DTYPES[dtype], output_loading_info=True
    )
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would draw them at random
        raise ValueError(f"{len(missing)} tensors are missing, the first is {missing[0]}")
    return model


def _read(checkpoint: str, what: str, load: Callable[[], T]) -> T:
    """Run one loader of transformers; its page-long errors become one line."""
    try:
        return load()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        message = f"checkpoint {checkpoint}: the {what} cannot be loaded: {_first_line(error)}"
        raise ValueError(message) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
