"""A session of the shop as an object with a current state, for environments that hold one.

rollout:
env:
type: webshop
options:
simulator: rewards.webshop.simulator:ShopSimulator
settings: {num_products: 2000, seed: 0, max_steps: 15}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rewards.webshop.config import ShopConfig
from rewards.webshop.goals import Goal, goal_from_row
from rewards.webshop.open_shop import shop_for
from rewards.webshop.shop import ShopStep
from rewards.webshop.state import ShopState


class ShopSimulator:
    """One session at a time; all sessions of a process share the shop.

    Args:
        goal_column: Column of a row with the name of a goal, or the goal itself.
        settings: Fields of `ShopConfig`; the same as under `shop` of the reward `webshop_goal`.
    """

    def __init__(
        self,
        *,
        goal_column: str = "goal",
        **settings: Any,  # fields of ShopConfig
    ) -> None:
        self._shop = shop_for(ShopConfig(**settings))
        self._goal_column = goal_column
        self._state: ShopState | None = None

    def reset(self, row: Mapping[str, Any], /) -> str:  # row of a data set
        """Start a session for the row's goal; the first page.

        Raises:
            ValueError: The row holds no goal of this catalogue.
        """
        self._state = self._shop.start(self._goal(row))
        return self._shop.observe(self._state)

    def step(self, action: str, /) -> ShopStep:
        """Do an action; an impossible one changes nothing but the counters."""
        step = self._shop.step(self.snapshot(), action)
        self._state = step.state
        return step

    def snapshot(self) -> ShopState:
        """The state, an immutable value."""
        assert self._state is not None, "step before reset or restore"
        return self._state

    def restore(self, state: ShopState, /) -> None:
        """Go on from a state."""
        self._state = state

    def _goal(self, row: Mapping[str, Any]) -> Goal:
        value = row.get(self._goal_column)
        if isinstance(value, str):
            return self._shop.catalogue.goal(value)
        if isinstance(value, Mapping):
            return goal_from_row(value)
        raise ValueError(
            f"column {self._goal_column!r} holds {type(value).__name__}, not a goal or its name"
        )
