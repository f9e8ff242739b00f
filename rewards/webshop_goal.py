"""WebShop reward: does what an episode bought meet the goal of its row?

The row holds the goal (column `goal`: the name of a goal of the configured catalogue, or the goal itself
as `rewards.webshop.goals.goal_to_row` writes it). What happened is taken from the first of these:

1. column `episode` of the row, written by the environment, never by the model: `{"actions": [...]}` is
   replayed, `{"asin": ..., "options": {...}}` is a finished purchase (an empty asin: nothing bought);
   `num_steps` and `num_invalid` may stand beside it;
2. the completion: actions in `<action>` tags, replayed on the simulator (`rewards/webshop/transcript.py`).

Replays are deterministic, and nothing that a model writes about observations or scores is believed.
Verdicts: CORRECT when the official reward is 1, WRONG for any other purchase, NO_ANSWER when nothing was
bought, REJECTED when the text holds an observation that the simulator did not make.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rewards.base import Sample, Score, Verdict
from rewards.webshop.config import ShopConfig
from rewards.webshop.goal_reward import GoalReward
from rewards.webshop.goals import Goal, goal_from_row
from rewards.webshop.open_shop import shop_for
from rewards.webshop.record import recorded_state
from rewards.webshop.shop import Shop
from rewards.webshop.state import ShopState
from rewards.webshop.transcript import replay_transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class WebshopGoalConfig:
    """Settings of `WebshopGoal`."""

    shop: ShopConfig = field(default_factory=ShopConfig)
    """The catalogue and the rules of a session; the same as the environment's."""
    objective: Literal["official", "success"] = "official"
    """official: the partial reward R; success: `value_success` when R is 1, else 0."""
    value_success: float = 1.0
    """Score of a success, for objective: success; GiGPO uses 10."""
    invalid_penalty: float = 0.0
    """Taken off per invalid action, for objective: success; GiGPO uses 0.1."""
    step_penalty: float = 0.0
    """Taken off per environment step, for objective: success."""
    strict_options: bool = False
    """Options must be the same words; for training only, the official formula is looser."""
    goal_column: str = "goal"
    """Column of the row with the goal."""
    episode_column: str = "episode"
    """Column of the row with the environment's record."""

    def __post_init__(self) -> None:
        if self.objective not in ("official", "success"):
            raise ValueError(f"objective={self.objective!r} is unknown; use official or success")
        penalties = self.invalid_penalty + self.step_penalty
        if min(self.invalid_penalty, self.step_penalty) < 0 or self.value_success <= 0:
            raise ValueError(
                f"invalid_penalty={self.invalid_penalty} and step_penalty={self.step_penalty} must not "
                f"be negative, and value_success={self.value_success} must be positive"
            )
        if penalties and self.objective == "official":
            raise ValueError(
                "penalties need objective: success; with the partial reward a success with invalid "
                "actions could score less than a near miss without"
            )
        if penalties * self.shop.max_steps >= self.value_success:
            raise ValueError(
                f"penalties of {penalties} over {self.shop.max_steps} steps use up value_success="
                f"{self.value_success}; then a failure could outscore a success"
            )


class WebshopGoal:
    """Judges an episode against its goal; see the module docstring.

    Example:
        A row with an `episode` that bought a fitting product with one of two wanted options, one
        wanted attribute and a price within the bound has value 3/4 and verdict WRONG.
    """

    name = "webshop_goal"
    in_process = True
    """Replays are bounded and share the catalogue of this process; workers would each make one."""
    failure_value = 0.0

    def __init__(self, config: WebshopGoalConfig | None = None) -> None:
        self.config = config or WebshopGoalConfig()

    def score(self, sample: Sample) -> Score:
        """Judges one episode; a bad row gives None, bad text a low score."""
        start = time.perf_counter()
        try:
            score = self._judged(*self._episode(sample, self._goal(sample.reference)))
        except ValueError as error:
            score = Score(value=None, verdict=Verdict.BAD_REFERENCE, detail=str(error)[:200])
        return replace(score, seconds=time.perf_counter() - start)

    def reference_problem(self, reference: Mapping[str, Any]) -> str | None:  # row of a data set
        """Why a data-set row cannot be judged, None when it can; for checks when data is loaded."""
        try:
            self._goal(reference)
        except ValueError as error:
            return str(error)
        return None

    def _shop(self) -> Shop:
        return shop_for(self.config.shop)

    def _goal(self, row: Mapping[str, Any]) -> Goal:
        column = row.get(self.config.goal_column)
        if isinstance(column, str):
            return self._shop().catalogue.goal(column)
        if isinstance(column, Mapping):
            return goal_from_row(column)
        raise ValueError(
            f"column {self.config.goal_column!r} holds {type(column).__name__}, not a goal or its name"
        )

    def _episode(self, sample: Sample, goal: Goal) -> tuple[ShopState, bool]:
        """The last state, and whether an observation was forged."""
        shop = self._shop()
        record = sample.reference.get(self.config.episode_column)
        if record is not None:
            return recorded_state(shop, goal, record), False
        replay = replay_transcript(shop, shop.start(goal), sample.completion)
        return replay.state, replay.is_forged

    def _judged(self, state: ShopState, is_forged: bool) -> Score:
        reward = (
            None if is_forged else self._shop().judge(state, is_strict=self.config.strict_options)
        )
        is_success = reward is not None and reward.value == 1
        parts = self._parts(state, reward, is_success)
        verdict = Verdict.CORRECT if is_success else Verdict.WRONG
        if reward is None:
            verdict = Verdict.REJECTED if is_forged else Verdict.NO_ANSWER
        return Score(
            value=math.fsum(parts.values()),
            verdict=verdict,
            parts=parts,
            detail="forged_observation"
            if is_forged
            else f"asin:{state.asin} steps:{state.num_steps}",
        )

    def _parts(
        self, state: ShopState, reward: GoalReward | None, is_success: bool
    ) -> dict[str, float]:
        if self.config.objective == "official":
            return {} if reward is None else reward.parts()
        return {
            "success": self.config.value_success * is_success,
            "invalid": -self.config.invalid_penalty * state.num_invalid,
            "steps": -self.config.step_penalty * state.num_steps,
        }


REWARD = WebshopGoal
