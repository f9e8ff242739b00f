"""Checkpoints that are whole or absent: staged, marked, renamed; and the state that TRL does not keep.

<run>/.staging/checkpoint-40/   while it is written (a kill leaves only this)
<run>/checkpoint-40/            after the rename: complete by construction
    complete.json               format version, step, number of processes; written last
    prompt_store.json           per-prompt statistics (SAS)
    rollout_buffer_rank0.pt     rollouts not yet trained on (a save inside a rollout block)
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

FORMAT_VERSION = 1
MARKER = "complete.json"
STAGING = ".staging"
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockState:
    """Where a rank stands inside a rollout block."""

    micro_step: int
    """Micro-batches seen since the start of the run (TRL's `_step`)."""
    buffered: list[dict[str, Any]] | None  # TRL's row dictionaries
    """Slices of the rollout batch that are still to be trained on; None at a block boundary."""


def complete_checkpoints(run_dir: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first; unmarked folders are not counted."""
    found = [path for path in run_dir.glob("checkpoint-*") if (path / MARKER).is_file()]
    return sorted((p for p in found if _NAME.fullmatch(p.name)), key=checkpoint_step)


def checkpoint_step(path: Path) -> int:
    """Optimizer step of a checkpoint folder, read from its name."""
    match = _NAME.fullmatch(path.name)
    assert match is not None, f"{path} is not a checkpoint folder"
    return int(match.group(1))


def find_checkpoint(run_dir: Path, wanted: str) -> Path | None:
    """The checkpoint that `--resume` means.

    Args:
        run_dir: Output folder of the run.
        wanted: "auto" for the newest complete one (None when there is none yet), or a folder.

    Raises:
        ValueError: the named folder is missing or was not completed.
    """
    if wanted == "auto":
        found = complete_checkpoints(run_dir)
        return found[-1] if found else None
    path = Path(wanted)
    if not path.is_dir():
        raise ValueError(f"--resume {wanted}: no such folder; complete ones: {_listing(run_dir)}")
    if not (path / MARKER).is_file():
        raise ValueError(
            f"--resume {wanted}: the checkpoint is incomplete (no {MARKER}); complete ones: "
            f"{_listing(run_dir)}"
        )
    return path


def read_marker(checkpoint: Path) -> dict[str, int]:
    """Format version, step and number of processes of a checkpoint.

    Raises:
        ValueError: the checkpoint was written by an unknown format version.
    """
    marker = json.loads((checkpoint / MARKER).read_text())
    if marker["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"{checkpoint}: checkpoint format {marker['format_version']} cannot be read by this "
            f"version, which reads {FORMAT_VERSION}"
        )
    return marker


def publish(staged: Path, run_dir: Path, *, num_processes: int, keep: int | None) -> Path:
    """Mark a staged checkpoint complete, move it into place at once, drop the oldest beyond `keep`.

    Returns:
        The final folder. A folder of the same step is replaced.
    """
    step = checkpoint_step(staged)
    marker = {"format_version": FORMAT_VERSION, "step": step, "num_processes": num_processes}
    write_atomically(staged / MARKER, json.dumps(marker))
    final = run_dir / staged.name
    if final.exists():
        shutil.rmtree(final)
    os.replace(staged, final)
    _sync_folder(run_dir)
    if keep is not None:
        for old in complete_checkpoints(run_dir)[:-keep]:
            shutil.rmtree(old)
    return final


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a kill leaves either the old or the new one."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def save_block(folder: Path, rank: int, block: BlockState) -> None:
    """Save one rank's place inside the rollout block."""
    payload = {"micro_step": block.micro_step, "buffered": block.buffered}
    torch.save(payload, _block_path(folder, rank))


def load_block(folder: Path, rank: int) -> BlockState:
    """Load one rank's place inside the rollout block.

    Raises:
        ValueError: the file of this rank is missing.
    """
    path = _block_path(folder, rank)
    if not path.is_file():
        raise ValueError(f"{path} is missing; the checkpoint cannot be resumed exactly")
    payload = torch.load(path, map_location="cpu", weights_only=True)
    return BlockState(micro_step=payload["micro_step"], buffered=payload["buffered"])


def _block_path(folder: Path, rank: int) -> Path:
    return folder / f"rollout_buffer_rank{rank}.pt"


def _listing(run_dir: Path) -> str:
    return ", ".join(p.name for p in complete_checkpoints(run_dir)) or "none"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
