r"""A shop with 30 products for the WebShop simulator: search, open, choose, buy.

    prompt        find me a steel bottle in red, and price lower than 30.00 dollars
    environment   WebShop [SEP] Instruction: [SEP] ... [SEP] Search
    careful       <action>search[steel bottle]</action>
    environment   ... Page 1 (Total results: 12) [SEP] Next > [SEP] P14 [SEP] steel bottle [SEP] ...
    careful       <action>click[P14]</action>     <action>click[red]</action>     and `size`, if asked
    careful       <action>click[Buy Now]</action>

Careless shoppers search for the material only, so that the first result is usually another product, or
buy without choosing. One goal in four is held out. The files in `recipes/data/corner_shop` are in
the format of the official ones; `raw_files` made them, and a test compares them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from itertools import product
from statistics import fmean
from typing import Any

from rewards.webshop.catalogue import RawFiles, catalogue_from_raw
from rewards.webshop.config import ShopConfig
from rewards.webshop.goals import Goal
from rewards.webshop.shop import Shop
from rewards.webshop.state import ShopState
from rollout.envs.webshop import WebShop
from trainers.tasks.base import (
    Demonstration,
    Piece,
    Respond,
    Row,
    Split,
    check_probabilities,
    split_of,
)

_HELDOUT_ONE_IN = 4
_KINDS = (
    "bottle",
    "lamp",
    "chair",
    "basket",
    "mirror",
    "towel",
    "pillow",
    "brush",
    "clock",
    "tray",
)
_MATERIALS = ("steel", "wooden", "cotton")
_COLOURS = ("red", "blue", "green", "black", "white")
_SIZES = ("small", "large")
_PRICES = (8, 14, 23)
_PHRASES = (
    *("WebShop", "Instruction:", "Search", "Back to Search", "Page 1 (Total results:", "< Prev"),
    *("Next >", "Buy Now", "Price:", "Rating: N.A.", "Description", "Features", "Reviews"),
    *("find me a", ", and price lower than", "dollars", "in", "and", "color", "size"),
)
_MARKS = ("[SEP]", "search[", "click[", "]</action>")
_TAGS = ("<action>", "</action>", "<observation>", "</observation>")


@dataclass(slots=True, kw_only=True)
class Habits:
    """How often a demonstration goes wrong, and how."""

    vague_prob: float = 0.4
    """Probability of searching for the material only."""
    hurried_prob: float = 0.4
    """Probability of buying without choosing."""
    malformed_prob: float = 0.02
    """Probability, in each turn, that the bracket is not closed; such an action has no effect."""

    def __post_init__(self) -> None:
        check_probabilities(self)


def raw_files() -> RawFiles:
    """The three files of the catalogue; always the same."""
    rng = random.Random("corner_shop")
    items: list[dict[str, Any]] = []  # decoded JSON
    attributes: dict[str, dict[str, Any]] = {}
    instructions: dict[str, list[dict[str, Any]]] = {}
    for number, (kind, material) in enumerate(product(_KINDS, _MATERIALS)):
        asin = f"P{number:02d}"
        options = {"color": rng.sample(_COLOURS, 3)}
        if _KINDS.index(kind) % 2:
            options["size"] = list(_SIZES)
        items.append(_item(asin, kind, material, options, rng.choice(_PRICES)))
        attributes[asin] = {"attributes": [material]}
        instructions[asin] = [
            {
                "instruction": f"find me a {material} {kind} in {' and '.join(chosen)}",
                "instruction_attributes": [material],
                "instruction_options": list(chosen),
            }
            for chosen in product(*options.values())
        ]
    rng.shuffle(items)
    return RawFiles(items=items, attributes=attributes, instructions=instructions)


@cache
def shop() -> Shop:
    """The shop of the catalogue, with 15 steps per session."""
    return Shop(catalogue_from_raw(raw_files()), ShopConfig())


def goals(split: Split) -> list[Goal]:
    """All goals of a split, in the order of the catalogue."""
    found = shop().catalogue.goals
    return [goal for goal in found if split_of(goal.instruction, _HELDOUT_ONE_IN) == split]


class CornerShop:
    """The task with its habits; see the module docstring."""

    title = "shopping in a catalogue of 30 products"
    recipe = "toy_treepo_webshop"
    warmstart = "warmstart_webshop"
    num_turn_tokens = 8
    num_tokens = 480

    def __init__(self, mix: Habits) -> None:
        self._mix = mix
        self.words = _words()

    def rows(self, split: Split) -> list[Row]:
        """Instructions with `goal`, the column that environment and reward read."""
        return [
            {
                "id": goal.id,
                "prompt": goal.instruction,
                "answer": goal.asin,
                "goal": goal.id,
            }
            for goal in goals(split)
        ]

    def demonstration(self, rng: random.Random, *, is_mixed: bool) -> Demonstration:
        """Draws a training goal and shops for it, carefully or with the habits of the mix."""
        goal = rng.choice(_cached_goals())
        habits = self._mix if is_mixed else _CAREFUL
        is_vague = rng.random() < habits.vague_prob
        is_hurried = rng.random() < habits.hurried_prob
        state = shop().start(goal)
        pieces = [_observation(shop().observe(state))]
        for planned in _plan(goal, is_vague=is_vague, is_hurried=is_hurried):
            action = planned or f"click[{_first_hit(pieces[-1].text)}]"
            if rng.random() < habits.malformed_prob:
                state = _act(pieces, state, action[:-1])
            state = _act(pieces, state, action)
            if state.is_done:
                break
        return Demonstration(goal.instruction, tuple(pieces[:-1]))

    def figures(self, respond: Respond) -> dict[str, float]:
        """How often the first turn searches for material and kind, or for the material only."""
        asked = goals("heldout")
        prompts = [goal.instruction + _first_page(goal) for goal in asked]
        greedy, sampled = respond(prompts, False), respond(prompts, True)
        full = [f"<action>search[{goal.name}]</action>" for goal in asked]
        vague = [f"<action>search[{_material(goal)}]</action>" for goal in asked]
        return {
            "full searches, greedy": fmean(map(str.startswith, greedy, full)),
            "full searches, one sample at temperature 1": fmean(map(str.startswith, sampled, full)),
            "samples that search for the material only": fmean(map(str.startswith, sampled, vague)),
        }

    def example(self) -> str:
        """The actions for a held-out goal."""
        goal = goals("heldout")[0]
        rest = ", ".join(f"click[{option}]" for option in goal.options)
        return (
            f"prompt    {goal.instruction}\n"
            f"careful   search[{goal.name}], click[{goal.asin}], {rest}, click[Buy Now]\n"
            f"vague     search[{_material(goal)}], ...\n"
            f"hurried   ..., click[{goal.asin}], click[Buy Now]"
        )


TASK = CornerShop
MIX = Habits
_CAREFUL = Habits(vague_prob=0.0, hurried_prob=0.0, malformed_prob=0.0)


def _item(
    asin: str, kind: str, material: str, options: dict[str, list[str]], price: int
) -> dict[str, Any]:  # one entry of the product file
    return {
        "asin": asin,
        "name": f"{material} {kind}",
        "full_description": "",
        "pricing": f"${price}.00",
        "images": [],
        "product_category": f"Home \u203a {kind}",
        "small_description": [],
        "customization_options": {
            name: [{"value": value, "image": None} for value in values]
            for name, values in options.items()
        },
        "category": "garden",
        "query": kind,
    }


@cache
def _cached_goals() -> tuple[Goal, ...]:
    return tuple(goals("train"))


def _words() -> tuple[str, ...]:
    """Tokens of several characters; texts of pages also with a blank in front."""
    asins = (f"P{number:02d}" for number in range(len(_KINDS) * len(_MATERIALS)))
    prices = (f"${price}.0" for price in _PRICES)
    texts = (*_PHRASES, *_KINDS, *_MATERIALS, *_COLOURS, *_SIZES, *asins, *prices, "[SEP]")
    with_blank = (f" {text}" for text in texts)
    return tuple(dict.fromkeys((*texts, *with_blank, *_MARKS, *_TAGS)))


def _plan(goal: Goal, *, is_vague: bool, is_hurried: bool) -> tuple[str, ...]:
    """The actions of a session; the empty one opens the first result."""
    search = f"search[{_material(goal) if is_vague else goal.name}]"
    choices = () if is_hurried else (f"click[{option}]" for option in goal.options)
    return (search, "", *choices, "click[Buy Now]")


def _material(goal: Goal) -> str:
    return goal.attributes[0]


def _first_hit(page: str) -> str:
    """The product that a page of results names first."""
    return page.partition("Next > [SEP] ")[2].partition(" [SEP]")[0]


def _act(pieces: list[Piece], state: ShopState, action: str) -> ShopState:
    """Add an action and the page behind it; returns the new state."""
    step = shop().step(state, action)
    pieces += [Piece(f"<action>{action}</action>"), _observation(step.observation)]
    return step.state


def _observation(page: str) -> Piece:
    turns = WebShop.turns
    text = f"{turns.observation_open}{page}{turns.observation_close}"
    return Piece(text, is_written=False)


def _first_page(goal: Goal) -> str:
    return _observation(shop().observe(shop().start(goal))).text
