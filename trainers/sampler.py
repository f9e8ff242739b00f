"""Order of prompts: groups of one prompt in a row, whole generation batches, a new order each epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import torch
from torch.utils.data import Sampler


class EpochRepeatSampler(Sampler[int]):
    """Yields each prompt `group_size` times in a row and each generation batch `repeats` times.

    The permutation is a function of (seed, epoch) alone, so a run resumed in epoch k sees epoch k's
    order. (TRL 1.16 draws all epochs from one generator that is re-seeded when a run is resumed:
    from the second epoch on prompts repeat and others are skipped.) Prompts that do not fill the
    last generation batch of an epoch are dropped, as in TRL.

    Example: 4 prompts, group_size 2, batch_size 2, repeats 1, no shuffle -> 0 0 1 1 2 2 3 3.
    """

    def __init__(
        self,
        data_source: Sized,
        *,
        group_size: int,
        batch_size: int,
        repeats: int,
        shuffle: bool,
        seed: int,
    ) -> None:
        self.num_prompts = len(data_source)
        self.group_size = group_size
        self.batch_size = batch_size
        self.repeats = repeats
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation; the trainer calls it at the start of each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        order = self._order()
        for start in range(0, len(order) - self.batch_size + 1, self.batch_size):
            batch = order[start : start + self.batch_size]
            for _ in range(self.repeats):
                for index in batch:
                    yield from [index] * self.group_size

    def __len__(self) -> int:
        batches = self.num_prompts // self.batch_size
        return batches * self.batch_size * self.group_size * self.repeats

    def _order(self) -> list[int]:
        if not self.shuffle:
            return list(range(self.num_prompts))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return torch.randperm(self.num_prompts, generator=generator).tolist()
