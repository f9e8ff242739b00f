"""Dynamic sampling: prompts whose responses all have the same reward are replaced by other prompts.

DAPO (arXiv 2503.14476) and TreePO (2508.17445) sample until a batch has enough prompts with different
rewards. Here a rollout batch keeps its size: after the first round, each prompt without signal gives
its place to another one, for at most `trainer.dynamic_sampling_rounds` extra rounds; what is still
uniform then stays and is counted. Deviation: replacements do not come from the epoch's order (which
would have to be part of the checkpoint) but from a permutation of the data keyed by (seed, step), so
an epoch still visits every prompt once and replacements are extra visits.

Everything is a function of (seed, step) and the global positions of the uniform prompts: a resumed
run, and a run with another number of processes, draws the same prompts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import torch

from inference.philox import path_key
from rollout.tree import RolloutTree

Row = Mapping[str, Any]  # one row of the data set: its columns are the user's


class PromptRows(Protocol):
    """A data set with random access."""

    def __len__(self) -> int:
        """Number of prompts."""
        ...

    def __getitem__(self, index: int, /) -> Any:  # a row of the user's columns
        """One row."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One prompt of the batch with its tree and what the rewards said."""

    row: Row
    tree: RolloutTree
    scores: tuple[tuple[float, ...], ...]
    """Per leaf the value of each reward function, NaN where it could not judge."""

    def is_uniform(self, weights: Sequence[float]) -> bool:
        """Whether no two leaves have different rewards (sums over functions with these weights)."""
        rewards = {combined_reward(values, weights) for values in self.scores}
        return len({reward for reward in rewards if not math.isnan(reward)}) <= 1


@dataclass(slots=True, kw_only=True)
class SamplingCounts:
    """What dynamic sampling did in one rollout batch, over all ranks."""

    generated: int
    """Prompts for which a tree was grown."""
    rounds: int = 0
    """Extra rounds."""
    kept_uniform: int = 0
    """Prompts without signal that stayed because the rounds or the prompts ran out."""

    def metrics(self, num_prompts: int) -> dict[str, float]:
        """The numbers to log.

        * rollout/oversampling: prompts generated / prompts used, at least 1.
        * rollout/dropped_prompts: prompts that were generated and not used.
        * rollout/dynamic_rounds: extra rounds.
        * rollout/kept_uniform_prompts: prompts without signal in the batch.
        """
        return {
            "rollout/oversampling": self.generated / num_prompts,
            "rollout/dropped_prompts": float(self.generated - num_prompts),
            "rollout/dynamic_rounds": float(self.rounds),
            "rollout/kept_uniform_prompts": float(self.kept_uniform),
        }


class Replacements:
    """Further prompts of one rollout batch, the same sequence on every rank.

    Example: with data a b c d and a taken, the order keyed (seed, step) may give c, d, b.
    """

    def __init__(self, rows: PromptRows, *, seed: int, step: int, taken: Iterable[str]) -> None:
        self._taken = set(taken)
        self._rows = self._walk(rows, path_key("replacements", seed, step))

    def take(self, num: int) -> list[Row]:
        """The next `num` prompts that the batch has not seen; fewer when the data end."""
        return list(islice(self._rows, num))

    def _walk(self, rows: PromptRows, key: int) -> Iterator[Row]:
        generator = torch.Generator().manual_seed(key % 2**63)
        for index in torch.randperm(len(rows), generator=generator).tolist():
            row = rows[index]
            if row["prompt_id"] not in self._taken:
                self._taken.add(row["prompt_id"])
                yield row


Drawer = Callable[[Sequence[Row], int], list[Draw]]
"""Grows and judges trees for prompts of this rank in a round; every rank calls it in every round."""
Gather = Callable[[list[Any]], list[Any]]  # lists of anything that can be pickled
"""Concatenates the lists of all ranks, in the order of the ranks."""


def draw_with_signal(
    rows: Sequence[Row],
    replacements: Replacements,
    *,
    draw: Drawer,
    gather: Gather,
    rank: int,
    num_rounds: int,
    reward_weights: Sequence[float],
) -> tuple[list[Draw], SamplingCounts]:
    """One draw per prompt of this rank, uniform ones replaced as far as `num_rounds` allow.

    A replacement takes the place of the prompt it replaces. All ranks go through the same rounds.

    Args:
        rows: Prompts of this rank.
        replacements: Where other prompts come from; equal on all ranks.
        draw: See `Drawer`; round 0 is the first.
        gather: See `Gather`.
        rank: This rank.
        num_rounds: Most extra rounds.
        reward_weights: Weight of each reward function.
    """
    draws = draw(rows, 0)
    counts = SamplingCounts(generated=sum(gather([len(rows)])))
    for number in range(1, num_rounds + 1):
        weak, wishes = _weak(draws, reward_weights, gather)
        fresh = replacements.take(sum(wishes))
        if not fresh:
            break
        mine = share_of_rank(fresh, wishes, rank)
        for slot, replacement in zip(weak, draw(mine, number), strict=False):
            draws[slot] = replacement
        counts.generated += len(fresh)
        counts.rounds = number
    counts.kept_uniform = sum(_weak(draws, reward_weights, gather)[1])
    return draws, counts


def combined_reward(values: Sequence[float], weights: Sequence[float]) -> float:
    """Weighted sum over reward functions without NaN; NaN if none could judge."""
    known = [v * w for v, w in zip(values, weights, strict=True) if not math.isnan(v)]
    return math.fsum(known) if known else math.nan


def share_of_rank(rows: Sequence[Row], counts: Sequence[int], rank: int) -> list[Row]:
    """The part of the replacements that belongs to a rank; `counts` are the wishes of all ranks."""
    first = sum(counts[:rank])
    return list(rows[first : first + counts[rank]])


def _weak(
    draws: Sequence[Draw], reward_weights: Sequence[float], gather: Gather
) -> tuple[list[int], list[int]]:
    """Places of the uniform draws of this rank, and how many each rank has."""
    weak = [i for i, one in enumerate(draws) if one.is_uniform(reward_weights)]
    return weak, gather([len(weak)])
