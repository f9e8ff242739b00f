"""Where a prompt gets more paths when none is active and leaves are missing (TreePO, section 2).

Candidates are leaves that ended with an answer or EOS, in random order. Each gives up at least its
last segment: a boundary among those of its own path is drawn uniformly, and min(N, still missing)
new paths start there. Without a candidate the prompt is restarted.

Differences from the released code:
* the context of the new paths is exactly the shortened response (there: unshortened unless one
  segment was dropped);
* boundaries are the segments' own, never other multiples of a length;
* a restart begins as many paths as the prompt began with (as far as they are missing), not N.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from rollout.tree import FinishReason

RESTARTABLE = frozenset({FinishReason.FINISHED, FinishReason.EOS})
"""Leaves that fallback may shorten; truncated and repetitive ones never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackFork:
    """New paths from a boundary of a finished path."""

    candidate: int | None
    """Index of the candidate, None: start from the prompt."""
    num_kept: int
    """Segments of the candidate's response that stay; 0: all of it is dropped."""
    num_paths: int
    """New paths that start there."""


def plan_fallback(
    depths: Sequence[int],
    *,
    missing: int,
    branching: int,
    num_restarts: int,
    rng: random.Random,
) -> list[FallbackFork]:
    """Forks that together start at least 1 and at most `missing` paths.

    Args:
        depths: Segments of each candidate's response, at least 1 each.
        missing: Leaves still wanted, at least 1.
        branching: N, paths per candidate.
        num_restarts: Paths from the prompt if there is no candidate.
        rng: The prompt's own random source.
    """
    if not depths:
        return [
            FallbackFork(candidate=None, num_kept=0, num_paths=max(1, min(num_restarts, missing)))
        ]
    order = list(range(len(depths)))
    rng.shuffle(order)
    forks: list[FallbackFork] = []
    for candidate in order:
        if missing == 0:
            break
        num_paths = min(branching, missing)
        num_kept = rng.randrange(depths[candidate])
        forks.append(FallbackFork(candidate=candidate, num_kept=num_kept, num_paths=num_paths))
        missing -= num_paths
    return forks
