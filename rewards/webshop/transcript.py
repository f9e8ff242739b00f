"""Replays what a policy wrote: actions in `<action>` tags, observations checked against the simulator.

A completion may hold the model's text alone, or the whole episode with the environment's observations
in `<observation>` tags. Only actions move the replay; any other text has no effect, so writing "your
score is 1.0" earns nothing. An observation block is accepted only where one can stand (at the start, or
after an action) and if it is exactly what the simulator shows there. Anything else in such tags was not
written by the environment: the model imitated an observation, and the replay reports it as forged.

Every step is linear in the length of the text, and the number of steps is limited by the shop.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from rewards.webshop.shop import Shop
from rewards.webshop.state import ShopState

ACTION_OPEN, ACTION_CLOSE = "<action>", "</action>"
OBSERVATION_OPEN, OBSERVATION_CLOSE = "<observation>", "</observation>"
_OPEN = re.compile(f"{ACTION_OPEN}|{OBSERVATION_OPEN}|{OBSERVATION_CLOSE}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Where a replay ended."""

    state: ShopState
    """State after the last action that counted."""
    num_actions: int
    """Actions found, those after the end of the episode included."""
    is_forged: bool
    """True when an observation is not the simulator's; the replay stopped there."""


def replay_actions(shop: Shop, state: ShopState, actions: Iterable[str]) -> ShopState:
    """The state after these actions; those after the end of the episode have no effect."""
    for action in actions:
        if state.is_done:
            break
        state = shop.step(state, action).state
    return state


def replay_transcript(shop: Shop, state: ShopState, text: str) -> Replay:
    """The state after all actions of a text; see the module docstring.

    Args:
        shop: The simulator.
        state: Where the episode started.
        text: What the model wrote, with or without the environment's observations.

    Example:
        `<action>search[lotion]</action><action>click[buy now]</action>` ends on the results page with
        one invalid step: nothing was opened that could be bought.
    """
    position, num_actions, may_observe = 0, 0, True
    while (opening := _OPEN.search(text, position)) is not None:
        if opening.group() == ACTION_OPEN:
            end = text.find(ACTION_CLOSE, opening.end())
            if end < 0:
                break
            state = replay_actions(shop, state, (text[opening.end() : end].strip(),))
            position, num_actions, may_observe = end + len(ACTION_CLOSE), num_actions + 1, True
            continue
        after = _observation_end(shop.observe(state), text, opening) if may_observe else -1
        if after < 0:
            return Replay(state=state, num_actions=num_actions, is_forged=True)
        position, may_observe = after, False
    return Replay(state=state, num_actions=num_actions, is_forged=False)


def _observation_end(observation: str, text: str, opening: re.Match[str]) -> int:
    """Position after an observation block with exactly this content, -1 when it is another one."""
    if opening.group() != OBSERVATION_OPEN:
        return -1
    start = _skip_space(text, opening.end())
    content = observation.strip()
    if not text.startswith(content, start):
        return -1
    end = _skip_space(text, start + len(content))
    return end + len(OBSERVATION_CLOSE) if text.startswith(OBSERVATION_CLOSE, end) else -1


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position
