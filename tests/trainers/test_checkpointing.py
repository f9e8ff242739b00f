from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from trainers.checkpointing import (
    MARKER,
    BlockState,
    complete_checkpoints,
    find_checkpoint,
    load_block,
    publish,
    read_marker,
    save_block,
    write_atomically,
)


def stage(run_dir: Path, step: int) -> Path:
    folder = run_dir / ".staging" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "weights").write_text(f"step {step}")
    return folder


def test_a_published_checkpoint_is_complete_and_the_staged_one_is_gone(tmp_path: Path) -> None:
    staged = stage(tmp_path, 4)
    final = publish(staged, tmp_path, num_processes=2, keep=None)
    assert final == tmp_path / "checkpoint-4"
    assert not staged.exists()
    assert read_marker(final) == {"format_version": 1, "step": 4, "num_processes": 2}


def test_the_oldest_checkpoints_beyond_the_limit_are_dropped(tmp_path: Path) -> None:
    for step in (8, 90, 100):
        publish(stage(tmp_path, step), tmp_path, num_processes=1, keep=2)
    assert [p.name for p in complete_checkpoints(tmp_path)] == ["checkpoint-90", "checkpoint-100"]


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    publish(stage(tmp_path, 4), tmp_path, num_processes=1, keep=None)
    again = stage(tmp_path, 4)
    (again / "weights").write_text("second")
    final = publish(again, tmp_path, num_processes=1, keep=None)
    assert (final / "weights").read_text() == "second"


def test_resume_auto_skips_an_incomplete_newest_checkpoint(tmp_path: Path) -> None:
    publish(stage(tmp_path, 4), tmp_path, num_processes=1, keep=None)
    broken = tmp_path / "checkpoint-9"
    broken.mkdir()
    stage(tmp_path, 12)
    assert find_checkpoint(tmp_path, "auto") == tmp_path / "checkpoint-4"


def test_resume_auto_without_any_checkpoint_starts_afresh(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path, "auto") is None


def test_naming_an_incomplete_or_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "checkpoint-9"
    broken.mkdir()
    with pytest.raises(ValueError, match=f"no {MARKER}"):
        find_checkpoint(tmp_path, str(broken))
    with pytest.raises(ValueError, match="no such folder; complete ones: none"):
        find_checkpoint(tmp_path, str(tmp_path / "checkpoint-1"))


def test_an_unknown_format_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text('{"format_version": 99, "step": 1, "num_processes": 1}')
    with pytest.raises(ValueError, match="format 99 cannot be read"):
        read_marker(tmp_path)


def test_a_rollout_block_survives_the_round_trip(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"ids": torch.tensor([[1, 2]]), "names": ["a"], "total": torch.tensor(3)}
    ]
    save_block(tmp_path, 1, BlockState(micro_step=6, buffered=rows))
    block = load_block(tmp_path, 1)
    assert block.micro_step == 6
    assert block.buffered is not None
    assert torch.equal(block.buffered[0]["ids"], rows[0]["ids"])
    assert block.buffered[0]["names"] == ["a"]


def test_the_block_of_another_rank_is_not_taken(tmp_path: Path) -> None:
    save_block(tmp_path, 0, BlockState(micro_step=6, buffered=None))
    with pytest.raises(ValueError, match=r"rollout_buffer_rank1\.pt is missing"):
        load_block(tmp_path, 1)


def test_an_atomic_write_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
