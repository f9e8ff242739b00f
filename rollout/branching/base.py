"""How many children each active path gets: the policy's contract, the budget, the look-up by name."""

from __future__ import annotations

import importlib
import pkgutil
import random
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import rollout.branching
from rollout.tree import Segment


@runtime_checkable
class BranchPolicy(Protocol):
    """What `rollout/branching/<name>.py` provides; the module names its class in `POLICY`.

    The class is called with one argument, the branching factor N.
    """

    def allocate(
        self,
        stopped: Sequence[Segment],
        active: Sequence[Segment],
        remaining: int,
        rng: random.Random,
    ) -> list[int]:
        """Children of each active path, in the order of `active`.

        Args:
            stopped: Last segments of the paths of the prompt that stopped in this step.
            active: Last segments of the paths that go deeper, at least one.
            remaining: Leaves that no stopped path covers yet; at least `len(active)`.
            rng: The prompt's own random source; use no other.

        Returns:
            At least 1 for each path, at most `remaining` in total.
        """
        ...


def branch_budget(*, remaining: int, num_stopped: int, num_active: int, branching: int) -> int:
    """Paths of a prompt's next step: max(min(remaining, N * (f + a)), a), TreePO's budget transfer.

    Paths that just stopped hand their branching budget to the live ones; each live path keeps at
    least one child.

    Args:
        remaining: Leaves still missing, width - (all stopped so far).
        num_stopped: f, paths that stopped in this step.
        num_active: a, paths that go deeper.
        branching: N.
    """
    return max(min(remaining, branching * (num_stopped + num_active)), num_active)


def checked_allocation(children: Sequence[int], *, num_active: int, remaining: int) -> list[int]:
    """`children` if they keep the contract of `BranchPolicy.allocate`.

    Raises:
        ValueError: Wrong length, a path without a child, or more children than leaves are left.
    """
    is_valid = len(children) == num_active and min(children, default=1) >= 1
    if not is_valid or sum(children) > remaining:
        raise ValueError(
            f"the branch policy gave {list(children)} to {num_active} active paths with "
            f"{remaining} leaves left; it must give each path at least 1 and at most "
            f"{remaining} in total"
        )
    return list(children)


def load_branch_policy(name: str, branching: int) -> BranchPolicy:
    """The policy called `name`: a module of this package, or `pkg.mod:Class` for outside code.

    Raises:
        ValueError: No such policy, or the class has no `allocate`.
    """
    policy = _policy_class(name)(branching)
    if not isinstance(policy, BranchPolicy):
        raise ValueError(f"branch_policy={name!r} has no method allocate(stopped, active, ...)")
    return policy


def branch_policy_names() -> list[str]:
    """Names of the policies in this package."""
    names = (module.name for module in pkgutil.iter_modules(rollout.branching.__path__))
    return sorted(name for name in names if name != "base")


def _policy_class(name: str) -> type:
    module_name, _, class_name = name.partition(":")
    if not class_name:
        if name not in branch_policy_names():
            raise ValueError(
                f"branch_policy={name!r} is unknown; use one of {branch_policy_names()} or pkg.mod:Class"
            )
        module_name, class_name = f"rollout.branching.{name}", "POLICY"
    try:
        policy: type = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"branch_policy={name!r} cannot be loaded: {error}") from error
    return policy
