"""State of one shopping session: a small immutable value, so that a branch copies it by sharing it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from enum import StrEnum

from rewards.webshop.goals import Goal, goal_from_row, goal_to_row


class PageKind(StrEnum):
    """The page that the shopper looks at."""

    SEARCH = "search"
    """The start page with the search bar."""
    RESULTS = "results"
    """Ten hits of a search."""
    ITEM = "item"
    """One product with its options."""
    DESCRIPTION = "description"
    """Sub page of a product: its description."""
    FEATURES = "features"
    """Sub page of a product: its bullets."""
    REVIEWS = "reviews"
    """Sub page of a product: nothing, the official files hold no reviews."""
    ATTRIBUTES = "attributes"
    """Sub page of a product: its attributes and categories; off unless configured."""
    DONE = "done"
    """After the purchase."""


SUB_PAGES = (PageKind.DESCRIPTION, PageKind.FEATURES, PageKind.REVIEWS, PageKind.ATTRIBUTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopState:
    """Everything that the next page depends on."""

    goal: Goal
    """What the shopper wants."""
    page: PageKind = PageKind.SEARCH
    """Kind of the page."""
    keywords: str = ""
    """Text of the search, empty before one."""
    page_number: int = 0
    """Page of the results, from 1; 0 before a search."""
    asin: str = ""
    """The product that was opened, empty when none is."""
    options: tuple[tuple[str, str], ...] = ()
    """Chosen options: (group, value), sorted by group, one per group."""
    visited: tuple[str, ...] = ()
    """Products opened since the search page was last shown, sorted."""
    num_steps: int = 0
    """Environment steps so far, invalid ones included."""
    num_invalid: int = 0
    """Steps that changed nothing because the action was not possible."""
    is_done: bool = False
    """True after the purchase and at the step limit."""
    reward: float = 0.0
    """Official reward of the purchase, 0 before it."""

    @property
    def is_bought(self) -> bool:
        """True after the purchase; False for an episode that ran out of steps."""
        return self.page is PageKind.DONE


def state_to_json(state: ShopState) -> str:
    """The state as one JSON object, for checkpoints and servers."""
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return json.dumps(fields | {"goal": goal_to_row(state.goal)}, sort_keys=True)


def state_from_json(text: str) -> ShopState:
    """The state that `state_to_json` wrote.

    Raises:
        ValueError: The text is not such an object.
    """
    try:
        fields = json.loads(text)
        goal, page = goal_from_row(fields.pop("goal")), PageKind(fields.pop("page"))
        options = tuple((str(group), str(value)) for group, value in fields.pop("options"))
        visited = tuple(fields.pop("visited"))
        return ShopState(goal=goal, page=page, options=options, visited=visited, **fields)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"not a shop state: {text[:80]!r} ({error})") from error
