"""How many children each active path gets: the policy's contract, the budget, the look-up by name."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import random
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import rollout.branching
from rollout.tree import Segment

ResponsePath = Sequence[Segment]
"""The segments of a path, the prompt first; the last one is the newest."""


@runtime_checkable
class BranchPolicy(Protocol):
    """What `rollout/branching/<name>.py` provides; the module names its class in `POLICY`.

    The class is called with the branching factor N. If the dataclass `<Class>Config` stands in its
    module, it is also given as `config`; if the constructor names `progress`, so is the share of
    the run that is done, a number in [0, 1]. `EarlyStop` is an optional second half.
    """

    def allocate(
        self,
        stopped: Sequence[ResponsePath],
        active: Sequence[ResponsePath],
        remaining: int,
        rng: random.Random,
    ) -> list[int]:
        """Children of each active path, in the order of `active`.

        Args:
            stopped: Paths of the prompt that stopped in this step.
            active: Paths that go deeper, at least one.
            remaining: Leaves that no stopped path covers yet; at least `len(active)`.
            rng: The prompt's own random source; use no other.

        Returns:
            At least 1 for each path, at most `remaining` in total.
        """
        ...


@runtime_checkable
class EarlyStop(Protocol):
    """What a branch policy may provide besides: it ends paths that are not worth going on with."""

    def early_stops(self, active: Sequence[ResponsePath]) -> list[bool]:
        """Whether each path ends here, as a leaf with `FinishReason.PRUNED`; asked before `allocate`."""
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


def load_branch_policy(
    name: str,
    branching: int,
    settings: Mapping[str, Any] | None = None,  # fields of the policy's own Config
    *,
    progress: float = 0.0,
) -> BranchPolicy:
    """The policy called `name`: a module of this package, or `pkg.mod:Class` for outside code.

    Args:
        name: See above.
        branching: N.
        settings: Fields of the policy's Config; None: its defaults.
        progress: Share of the run that is done, in [0, 1]; for policies that follow a schedule.

    Raises:
        ValueError: No such policy, the class has no `allocate`, or it refuses the settings.
    """
    if not 0.0 <= progress <= 1.0:
        raise ValueError(f"progress={progress} must lie in [0, 1]: steps done / steps of the run")
    cls = policy_class(name)
    arguments: dict[str, Any] = {}  # only what the class asks for
    config = policy_config_class(cls)
    if config is not None:
        arguments["config"] = _settings(name, config, settings or {})
    elif settings:
        raise ValueError(f"branch_policy={name!r} takes no settings; leave them out")
    if "progress" in inspect.signature(cls).parameters:
        arguments["progress"] = progress
    policy = cls(branching, **arguments)
    if not isinstance(policy, BranchPolicy):
        raise ValueError(f"branch_policy={name!r} has no method allocate(stopped, active, ...)")
    return policy


def branch_policy_names() -> list[str]:
    """Names of the policies in this package."""
    names = (module.name for module in pkgutil.iter_modules(rollout.branching.__path__))
    return sorted(name for name in names if name != "base")


def policy_class(name: str) -> type:
    """The class of a policy.

    Raises:
        ValueError: No such module or class.
    """
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


def policy_config_class(policy: type) -> type | None:
    """The Config dataclass of a policy class, None when it takes no settings."""
    found = getattr(sys.modules[policy.__module__], f"{policy.__name__}Config", None)
    return found if isinstance(found, type) and dataclasses.is_dataclass(found) else None


def _settings(name: str, config: type, given: Mapping[str, object]) -> object:
    try:
        return config(**given)
    except TypeError as error:
        known = [item.name for item in dataclasses.fields(config)]
        raise ValueError(
            f"branch_policy={name!r} settings {sorted(given)}: {error}; known: {known}"
        ) from error
