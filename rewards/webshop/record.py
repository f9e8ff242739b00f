"""The record of an episode that an environment hands to the reward, as a JSON object.

A record is evidence of the environment, never of the model: it must not be filled from model text
other than the actions that were really carried out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rewards.webshop.goals import Goal
from rewards.webshop.shop import Shop
from rewards.webshop.state import PageKind, ShopState
from rewards.webshop.transcript import replay_actions


def episode_record(state: ShopState) -> dict[str, Any]:  # JSON object
    """What was bought and how many steps it took; an empty asin when nothing was bought."""
    return {
        "asin": state.asin if state.is_bought else "",
        "options": dict(state.options) if state.is_bought else {},
        "num_steps": state.num_steps,
        "num_invalid": state.num_invalid,
    }


def recorded_state(shop: Shop, goal: Goal, record: object) -> ShopState:
    """The final state of a recorded episode: `{"actions": [...]}` is replayed, a purchase is taken.

    Raises:
        ValueError: The record is neither, or names what the catalogue does not have.
    """
    if not isinstance(record, Mapping):
        raise ValueError(f"the episode is a {type(record).__name__}, expected a JSON object")
    if "actions" in record:
        return replay_actions(shop, shop.start(goal), _texts(record["actions"]))
    if "asin" not in record:
        raise ValueError(f"the episode has fields {sorted(record)}, expected `actions` or `asin`")
    counted = ShopState(
        goal=goal,
        num_steps=_count(record, "num_steps", shop.config.max_steps),
        num_invalid=_count(record, "num_invalid", shop.config.max_steps),
        is_done=True,
    )
    return _purchase(shop, counted, record) if record["asin"] else counted


def _purchase(shop: Shop, state: ShopState, record: Mapping[str, Any]) -> ShopState:
    product = shop.catalogue.by_asin.get(str(record["asin"]))
    if product is None:
        raise ValueError(f"product {record['asin']!r} is not in this catalogue")
    given = record.get("options") or {}
    options = {name: value for name, value in given.items() if value is not None}
    groups = {name.lower(): values for name, values in product.options}
    unknown = [name for name, value in options.items() if value not in groups.get(name, ())]
    if unknown:
        raise ValueError(f"product {product.asin} has no such value of the options {unknown}")
    chosen = tuple(sorted((str(name), str(value)) for name, value in options.items()))
    return replace(state, page=PageKind.DONE, asin=product.asin, options=chosen)


def _texts(actions: object) -> list[str]:
    if not isinstance(actions, list | tuple) or not all(isinstance(a, str) for a in actions):
        raise ValueError("the actions of an episode must be a list of texts")
    return list(actions)


def _count(record: Mapping[str, Any], name: str, limit: int) -> int:
    value = record.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= limit:
        raise ValueError(f"episode.{name}={value!r} must be a whole number from 0 to {limit}")
    return value
