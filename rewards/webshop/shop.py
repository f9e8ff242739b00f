"""The simulator: pure transitions over a shared, read-only catalogue.

    shop = shop_for(ShopConfig())
    state = shop.start(shop.catalogue.goals[0])
    text = shop.observe(state)
    step = shop.step(state, "search[body lotion]")      # step.state, step.observation, ...

`step` never changes anything: the same state and action give the same step, and a branch goes on from
the state it was given. Transitions follow the text environment of princeton-nlp/WebShop (MIT).

Differences from it:

* actions after the end change nothing (there, a search goes on after the purchase);
* `<r>`, `<a>`, `<c>` and `<q>` at the start of a search are ordinary words (there, hidden operators that
  list products by metadata, which a policy would learn to use);
* the page follows from the state, never from the text of an address (there, a search for the word
  `search_results` confuses the item page).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from rewards.webshop.actions import parse_action
from rewards.webshop.catalogue import Catalogue
from rewards.webshop.config import ObservationMode, ShopConfig
from rewards.webshop.goal_reward import GoalReward, goal_reward
from rewards.webshop.goals import Goal
from rewards.webshop.nouns import NounFinder, heuristic_nouns
from rewards.webshop.pages import (
    BACK_TO_SEARCH,
    BUY_NOW,
    NEXT,
    PREVIOUS,
    SEARCH,
    Element,
    Mark,
    Page,
    click_targets,
    done_page,
    item_page,
    plain_text,
    results_page,
    rich_text,
    search_page,
    sub_page,
)
from rewards.webshop.search import SearchIndex
from rewards.webshop.state import SUB_PAGES, PageKind, ShopState

_RENDER: dict[ObservationMode, Callable[[Page], str]] = {"text": plain_text, "text_rich": rich_text}


@dataclass(frozen=True, slots=True, kw_only=True)
class Admissible:
    """What an agent may do on a page."""

    has_search_bar: bool
    """True on the search page; `search[...]` works on every page all the same."""
    clickables: tuple[str, ...]
    """Arguments that `click[...]` accepts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopStep:
    """Result of one action."""

    state: ShopState
    """The state to go on from."""
    observation: str
    """The page after the action."""
    reward: float
    """Official reward of a purchase by this action, else 0."""
    is_done: bool
    """True when the episode is over: bought, or out of steps."""
    is_valid: bool
    """False when the action was not possible; then only the counters of the state moved."""


class Shop:
    """Sessions over one catalogue; holds no session itself.

    Args:
        catalogue: Products and goals.
        config: Observation mode, step limit, pages; the parts about the catalogue are not read.
        nouns: Finds the nouns of a name; the default is our heuristic.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        config: ShopConfig | None = None,
        nouns: NounFinder = heuristic_nouns,
    ) -> None:
        self.catalogue = catalogue
        self.config = config or ShopConfig()
        self._index = SearchIndex(catalogue.products)
        self._nouns = nouns

    def start(self, goal: Goal) -> ShopState:
        """A new session, on the search page; the goal need not be one of the catalogue."""
        return ShopState(goal=goal)

    def page(self, state: ShopState) -> Page:
        """The page that the shopper sees, as elements."""
        goal = state.goal
        if state.page is PageKind.SEARCH:
            return search_page(goal)
        if state.page is PageKind.DONE:
            return done_page(state.reward)
        if state.page is PageKind.RESULTS:
            return results_page(goal, state, self._index.search(state.keywords))
        product = self.catalogue.by_asin[state.asin]
        if state.page is PageKind.ITEM:
            return item_page(goal, state, product, self.config.show_attributes)
        return sub_page(goal, state.page, product)

    def observe(self, state: ShopState) -> str:
        """The page as text, in the configured mode."""
        return _RENDER[self.config.observation_mode](self.page(state))

    def admissible(self, state: ShopState) -> Admissible:
        """What `step` would accept; nothing once the episode is over."""
        targets = {} if state.is_done else click_targets(self.page(state))
        return Admissible(
            has_search_bar=not state.is_done and state.page is PageKind.SEARCH,
            clickables=tuple(name for name in targets if name != SEARCH.lower()),
        )

    def step(self, state: ShopState, action: str) -> ShopStep:
        """Carries out one action; whatever its text is, it never raises.

        A finished session stays as it is. At the step limit the session ends without a purchase.
        """
        if state.is_done:
            return self._result(state, reward=0.0, is_valid=False)
        after = self._after(state, action)
        num_steps = state.num_steps + 1
        is_valid = after is not None
        moved = replace(
            after or state,
            num_steps=num_steps,
            num_invalid=state.num_invalid + (not is_valid),
            is_done=(after is not None and after.is_done) or num_steps >= self.config.max_steps,
        )
        return self._result(moved, reward=moved.reward, is_valid=is_valid)

    def resume(self, state: ShopState) -> ShopStep:
        """The page of a state as a step without an action: reward 0, nothing moved."""
        return self._result(state, reward=0.0, is_valid=True)

    def judge(self, state: ShopState, *, is_strict: bool = False) -> GoalReward | None:
        """The reward of the purchase with its terms, None when nothing was bought."""
        if not state.is_bought:
            return None
        product = self.catalogue.by_asin[state.asin]
        return goal_reward(
            product,
            state.goal,
            price=product.price,
            options=dict(state.options),
            product_nouns=self._nouns(product.name),
            goal_nouns=self._nouns(state.goal.name),
            is_strict=is_strict,
        )

    def _result(self, state: ShopState, *, reward: float, is_valid: bool) -> ShopStep:
        return ShopStep(
            state=state,
            observation=self.observe(state),
            reward=reward,
            is_done=state.is_done,
            is_valid=is_valid,
        )

    def _after(self, state: ShopState, text: str) -> ShopState | None:
        """The state after the action, counters aside; None when the action is not possible."""
        action = parse_action(text)
        if action is None:
            return None
        if action.name == "search":
            return _results(state, keywords=action.argument, page_number=1)
        targets = click_targets(self.page(state)) if action.name == "click" else {}
        target = targets.get(action.argument)
        if target is None or action.argument == SEARCH.lower():
            return None
        return self._after_click(state, action.argument, target)

    def _after_click(self, state: ShopState, name: str, target: Element) -> ShopState:
        if name == BUY_NOW.lower():
            bought = replace(state, page=PageKind.DONE, is_done=True)
            reward = self.judge(bought)
            assert reward is not None, "judge judges every purchase"
            return replace(bought, reward=reward.value)
        if name == BACK_TO_SEARCH.lower():
            return _search_again(state)
        if name == NEXT.lower() and state.page is PageKind.RESULTS:
            return _results(state, state.keywords, state.page_number + 1)
        if name == PREVIOUS.lower():
            return _back(state)
        if name in SUB_PAGES:
            return replace(state, page=PageKind(name))
        return _open(state, target) if target.mark is Mark.LINK else _choose(state, name, target)


def _results(state: ShopState, keywords: str, page_number: int) -> ShopState:
    return replace(
        state,
        page=PageKind.RESULTS,
        keywords=keywords,
        page_number=page_number,
        asin="",
        options=(),
    )


def _search_again(state: ShopState) -> ShopState:
    return replace(
        state,
        page=PageKind.SEARCH,
        keywords="",
        page_number=0,
        asin="",
        options=(),
        visited=(),
    )


def _back(state: ShopState) -> ShopState:
    if state.page is PageKind.RESULTS:
        return _results(state, state.keywords, state.page_number - 1)
    if state.page is PageKind.ITEM:
        return _results(state, state.keywords, state.page_number)
    return replace(state, page=PageKind.ITEM)


def _open(state: ShopState, target: Element) -> ShopState:
    visited = tuple(sorted({*state.visited, target.text}))
    return replace(state, page=PageKind.ITEM, asin=target.text, visited=visited)


def _choose(state: ShopState, value: str, target: Element) -> ShopState:
    chosen = {**dict(state.options), target.group: value}
    return replace(state, options=tuple(sorted(chosen.items())))
