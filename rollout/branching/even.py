"""Even splitting of the branching budget (TreePO's fixed_avg, its best policy).

Difference from the released code: the remainder goes round robin to the first paths, not as a whole
to the last path (13 children over 8 paths: 2,2,2,2,2,1,1,1, there 1,1,1,1,1,1,1,6).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from rollout.branching.base import ResponsePath, branch_budget


class EvenBranching:
    """Gives every active path the same number of children, up to one."""

    def __init__(self, branching: int) -> None:
        self._branching = branching

    def allocate(
        self,
        stopped: Sequence[ResponsePath],
        active: Sequence[ResponsePath],
        remaining: int,
        rng: random.Random,
    ) -> list[int]:
        """Children of each active path; see `BranchPolicy.allocate`."""
        del rng  # part of the contract; even splitting draws nothing
        total = branch_budget(
            remaining=remaining,
            num_stopped=len(stopped),
            num_active=len(active),
            branching=self._branching,
        )
        return split_evenly(total, len(active))


def split_evenly(total: int, num_parts: int) -> list[int]:
    """`total` in `num_parts` integers that differ by at most 1, the larger ones first.

    Example: 13 over 8 -> 2, 2, 2, 2, 2, 1, 1, 1.
    """
    share, remainder = divmod(total, num_parts)
    return [share + (index < remainder) for index in range(num_parts)]


POLICY = EvenBranching
