"""The memory of DCPO's smooth standardisation: reward statistics of every prompt ever visited.

DCPO, arXiv 2509.02333, section on SAS and A.7. Deviations from the published code:

* the key is a prompt id that must be given (the code shares one entry among rows without one);
* all responses of a prompt in one batch are ONE visit (in the code the last group wins);
* the file is checked on loading; nothing continues silently with an empty store.

Call `visit` once per rollout batch with the gathered rows of all ranks, in training only, never once
per optimizer step and never in evaluation; before any filter drops uniform groups (else the store
sees mixed groups only). Then every rank holds the same store without a broadcast; compare
`checksum()` over ranks now and then.

File format, JSON lines in UTF-8: a header object (format, version, std, num_prompts, checksum),
then one array [prompt_id, visits, count, mean, m2] per prompt in the order of the ids.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainers.advantages import RewardStats, StdKind, smooth_advantages

FORMAT = "ramify-prompt-store"
VERSION = 1


class PromptStoreError(ValueError):
    """A prompt store file is missing, damaged, or was written with other settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitStats:
    """What one call of `PromptStore.visit` saw. Row-wise fields are in the order of the rows."""

    num_prompts: int
    """Distinct prompts with at least one scorable response; the denominator of the next four."""
    num_first_visits: int
    """Prompts visited for the first time."""
    num_uniform: int
    """Prompts whose scorable rewards of this visit are all equal."""
    sum_visits: int
    """Sum over prompts of their visit number i."""
    num_unscorable_prompts: int
    """Distinct prompts whose rewards were all NaN: not a visit."""
    store_size: int
    """Prompts in the store after the call."""
    sigma_total: tuple[float, ...]
    """Per row: standard deviation of all rewards of its prompt, this visit included."""

    def metrics(self) -> dict[str, float]:
        """Return the numbers to log; shares of no prompts are 0."""
        prompts = max(self.num_prompts, 1)
        return {
            "reward/first_visit_frac": self.num_first_visits / prompts,
            "reward/uniform_frac": self.num_uniform / prompts,
            "reward/mean_visits": self.sum_visits / prompts,
            "reward/unscorable_prompts": float(self.num_unscorable_prompts),
            "reward/store_size": float(self.store_size),
        }


class PromptStore:
    """Reward statistics by prompt id.

    Args:
        std: "population" (exact pooling) or "sample" (as DCPO's code, for comparison).
    """

    def __init__(self, std: StdKind = "population") -> None:
        self.std: StdKind = std
        self._records: dict[str, RewardStats] = {}

    def __len__(self) -> int:
        return len(self._records)

    def get(self, prompt_id: str) -> RewardStats:
        """Return the record of a prompt, an empty one if it was never visited."""
        return self._records.get(_checked_id(prompt_id), RewardStats())

    def visit(
        self,
        prompt_ids: Sequence[str],
        rewards: Sequence[float],
        *,
        weights: Sequence[float] | None = None,
    ) -> tuple[list[float], VisitStats]:
        """Return the smooth advantages of a rollout batch and record the visit of its prompts.

        Rows of a prompt need not be adjacent; the result does not depend on the order of the rows.
        A prompt whose rewards are all NaN is not visited. On an error nothing is recorded.

        Args:
            prompt_ids: Id of the prompt of each row, non-empty.
            rewards: Reward of each row; NaN = unscorable (advantage 0), never infinite.
            weights: Statistical weight of each row, see `smooth_advantages`; None = equal.

        Raises:
            ValueError: A missing id, an infinite reward, or sequences of different lengths.
        """
        rows_of = _rows_by_prompt(prompt_ids, rewards, weights)
        advantages = [0.0] * len(rewards)
        sigma_total = [0.0] * len(rewards)
        after_visit: dict[str, RewardStats] = {}
        num_uniform = 0
        for prompt_id, rows in rows_of.items():
            group = [rewards[row] for row in rows]
            before = self.get(prompt_id)
            smoothed, after = smooth_advantages(
                group, before, std=self.std, weights=weights and [weights[row] for row in rows]
            )
            for row, advantage in zip(rows, smoothed, strict=True):
                advantages[row], sigma_total[row] = advantage, after.std
            if after.visits > before.visits:
                after_visit[prompt_id] = after
                num_uniform += len({reward for reward in group if not math.isnan(reward)}) == 1
        self._records.update(after_visit)
        return advantages, VisitStats(
            num_prompts=len(after_visit),
            num_first_visits=sum(stats.visits == 1 for stats in after_visit.values()),
            num_uniform=num_uniform,
            sum_visits=sum(stats.visits for stats in after_visit.values()),
            num_unscorable_prompts=len(rows_of) - len(after_visit),
            store_size=len(self),
            sigma_total=tuple(sigma_total),
        )

    def checksum(self) -> str:
        """Return a SHA-256 hex digest of std and records, independent of insertion order."""
        return _digest(self.std, self._lines())

    def save(self, path: Path) -> None:
        """Write the store to `path` through a temporary file next to it and a rename."""
        lines = self._lines()
        header = {
            "format": FORMAT,
            "version": VERSION,
            "std": self.std,
            "num_prompts": len(lines),
            "checksum": _digest(self.std, lines),
        }
        temporary = path.with_name(f"{path.name}.tmp{os.getpid()}")
        try:
            with temporary.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{line}\n" for line in [json.dumps(header), *lines])
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path, *, std: StdKind = "population") -> PromptStore:
        """Read a store that `save` wrote.

        Args:
            path: The file.
            std: The setting of this run; it must be the one of the file.

        Raises:
            PromptStoreError: The file is missing, damaged, of another version, or of another std.
        """
        lines = _read_lines(path)
        header = _parse_header(lines[0], path)
        if header["std"] != std:
            raise PromptStoreError(
                f"prompt store {path} was written with std={header['std']!r}, this run has "
                f"std={std!r}; use the setting of the file"
            )
        if header["num_prompts"] != len(lines) - 1 or header["checksum"] != _digest(std, lines[1:]):
            raise PromptStoreError(
                f"prompt store {path} is damaged: the header promises {header['num_prompts']} "
                f"prompts with checksum {header['checksum']}, the file has {len(lines) - 1} lines "
                "that do not match; resume from another checkpoint"
            )
        store = cls(std)
        for line in lines[1:]:
            prompt_id, visits, count, mean, m2 = json.loads(line)
            store._records[prompt_id] = RewardStats(visits=visits, count=count, mean=mean, m2=m2)
        return store

    def _lines(self) -> list[str]:
        return [
            json.dumps([prompt_id, stats.visits, stats.count, stats.mean, stats.m2])
            for prompt_id, stats in sorted(self._records.items())
        ]


def _rows_by_prompt(
    prompt_ids: Sequence[str], rewards: Sequence[float], weights: Sequence[float] | None
) -> dict[str, list[int]]:
    if len(prompt_ids) != len(rewards) or (weights is not None and len(weights) != len(rewards)):
        raise ValueError(
            f"{len(prompt_ids)} prompt ids, {len(rewards)} rewards, "
            f"{'no' if weights is None else len(weights)} weights: pass one of each per row"
        )
    rows_of: dict[str, list[int]] = {}
    for row, (prompt_id, reward) in enumerate(zip(prompt_ids, rewards, strict=True)):
        if math.isinf(reward):
            raise ValueError(f"reward of row {row} is {reward}; use NaN for an unscorable response")
        rows_of.setdefault(_checked_id(prompt_id), []).append(row)
    return rows_of


def _checked_id(prompt_id: str) -> str:
    if not isinstance(prompt_id, str) or not prompt_id:
        raise ValueError(
            f"prompt id {prompt_id!r} is not a non-empty string; give every data-set row a stable "
            "id (data-set name + row id, or a hash of the prompt)"
        )
    return prompt_id


def _digest(std: str, lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join([std, *lines]).encode("utf-8")).hexdigest()


def _read_lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PromptStoreError(
            f"cannot read prompt store {path}: {error}; a resumed run needs the store of its "
            "checkpoint, start afresh or resume from a complete checkpoint"
        ) from error
    if not lines:
        raise PromptStoreError(f"prompt store {path} is empty; resume from another checkpoint")
    return lines


def _parse_header(line: str, path: Path) -> dict[str, object]:
    try:
        header = json.loads(line)
    except json.JSONDecodeError as error:
        raise PromptStoreError(
            f"prompt store {path} has no header: {error}; resume from another checkpoint"
        ) from error
    found = (header.get("format"), header.get("version")) if isinstance(header, dict) else None
    if found != (FORMAT, VERSION):
        raise PromptStoreError(
            f"prompt store {path} has format and version {found}, expected {(FORMAT, VERSION)}; "
            "it was written by another program or another version"
        )
    missing = {"std", "num_prompts", "checksum"} - header.keys()
    if missing:
        raise PromptStoreError(f"prompt store {path}: the header lacks {sorted(missing)}")
    return header
