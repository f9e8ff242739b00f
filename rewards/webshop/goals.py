"""Shopping goals: who is looking for what, and for how much.

Rules of princeton-nlp/WebShop (MIT). Human goals come from crowd instructions, a list of wanted option
values each; synthetic goals are one per combination of option values, wanted options are pairs
(group, value). The bound is the larger of two of the first four multiples of ten above the price; from
980 dollars on there are fewer than two, then there is no bound and no text about it.

Deviations: the bound is drawn with a generator keyed by (seed, goal), not from a global one; goals
that the original formula cannot judge (no attributes, bound not positive) are refused.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rewards.webshop.products import Product

NO_BOUND = 1_000_000.0
SHUFFLE_SEED = 233
_BOUNDS = tuple(10.0 * i for i in range(1, 100))

GoalKind = Literal["human", "synthetic"]
GOAL_KINDS: tuple[GoalKind, ...] = ("human", "synthetic")
GoalOption = str | tuple[str, str]
"""A wanted value, or (group, value) in synthetic goals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a shopper wants; refused when the reward could not be computed."""

    id: str
    """Stable name: the asin of the product it was written for, and a number."""
    instruction: str
    """The request, price bound included; the agent sees only this."""
    name: str
    """Name of the product it was written for."""
    query: str
    """Search that found that product."""
    product_category: str
    """Path of categories of that product."""
    attributes: tuple[str, ...]
    """Wanted attributes, at least one."""
    options: tuple[GoalOption, ...] = ()
    """Wanted option values."""
    price_upper: float = NO_BOUND
    """Highest acceptable price in dollars, positive."""
    asin: str = ""
    """The product it was written for; others may fit as well."""
    category: str = ""
    """Department of that product."""

    def __post_init__(self) -> None:
        if not self.attributes:
            raise ValueError(
                f"goal {self.id!r} has no attributes, its reward would divide by zero; leave it out"
            )
        if not self.price_upper > 0:
            raise ValueError(
                f"goal {self.id!r}: price_upper={self.price_upper} must be positive; "
                f"{NO_BOUND:.0f} means no bound"
            )


def human_goals(
    products: Sequence[Product],
    instructions: Mapping[str, Sequence[Mapping[str, Any]]],  # decoded JSON
    seed: int,
) -> Iterator[Goal]:
    """Goals from crowd instructions, in catalogue order; those without attributes are left out.

    Args:
        products: The catalogue.
        instructions: Content of `items_human_ins.json`: asin -> list of instructions.
        seed: Catalogue seed, for price bounds.
    """
    for product in products:
        for number, row in enumerate(instructions.get(product.asin, ())):
            if row["instruction_attributes"]:
                goal_id = f"{product.asin}-{number}"
                bound, text = price_bound(product.price, f"{seed}:{goal_id}")
                yield Goal(
                    id=goal_id,
                    instruction=row["instruction"].strip(".") + text,
                    name=product.name,
                    attributes=tuple(row["instruction_attributes"]),
                    options=tuple(row["instruction_options"]),
                    price_upper=bound,
                    **_context(product),
                )


def synthetic_goals(
    products: Sequence[Product],
    attributes: Mapping[str, Mapping[str, Any]],  # decoded JSON
    seed: int,
) -> Iterator[Goal]:
    """One goal per combination of option values of every product with an instruction.

    Args:
        products: The catalogue.
        attributes: Content of `items_ins_v2*.json`: asin -> `instruction`, `instruction_attributes`.
        seed: Catalogue seed; all goals of a product share one price bound.
    """
    for product in products:
        row = attributes.get(product.asin, {})
        if row.get("instruction") and row.get("instruction_attributes"):
            bound, price_text = price_bound(product.price, f"{seed}:{product.asin}")
            for number, pairs in enumerate(_combinations(product)):
                wanted = ", and ".join(f"{name}: {value}" for name, value in pairs)
                yield Goal(
                    id=f"{product.asin}-{number}",
                    instruction=row["instruction"]
                    + (f" with {wanted}" if wanted else "")
                    + price_text,
                    name=product.title,
                    attributes=tuple(row["instruction_attributes"]),
                    options=pairs,
                    price_upper=bound,
                    **_context(product),
                )


def price_bound(price: float, key: str) -> tuple[float, str]:
    """The bound above `price` and the words that state it.

    Example:
        For 24.31 the bound is one of 40, 50 and 60, the words `, and price lower than 40.00 dollars`.
    """
    candidates = [bound for bound in _BOUNDS if bound > price][:4]
    if len(candidates) < 2:
        return NO_BOUND, ""
    bound = max(random.Random(f"bound:{key}").sample(candidates, 2))
    return bound, f", and price lower than {bound:.2f} dollars"


def shuffled(goals: Iterable[Goal]) -> tuple[Goal, ...]:
    """The goals in the order whose numbers papers quote (0-499 test): shuffled with seed 233."""
    order = list(goals)
    random.Random(SHUFFLE_SEED).shuffle(order)
    return tuple(order)


def goal_to_row(goal: Goal) -> dict[str, Any]:  # JSON object
    """The goal as a JSON object, for data-set rows; option pairs become a mapping."""
    return {
        "id": goal.id,
        "instruction": goal.instruction,
        "name": goal.name,
        "query": goal.query,
        "product_category": goal.product_category,
        "attributes": list(goal.attributes),
        "goal_options": _options_to_row(goal.options),
        "price_upper": goal.price_upper,
        "asin": goal.asin,
        "category": goal.category,
    }


def goal_from_row(row: Mapping[str, Any]) -> Goal:  # JSON object
    """The goal of a JSON object as `goal_to_row` writes it.

    Raises:
        ValueError: A field is missing or has the wrong form, or the goal cannot be judged.
    """
    try:
        options = row["goal_options"]
        pairs = _pairs(options) if isinstance(options, Mapping) else options
        return Goal(
            id=str(row.get("id", "")),
            instruction=str(row.get("instruction", "")),
            name=str(row["name"]),
            query=str(row["query"]),
            product_category=str(row["product_category"]),
            attributes=tuple(str(text) for text in row["attributes"]),
            options=tuple(_goal_option(option) for option in pairs),
            price_upper=float(row["price_upper"]),
            asin=str(row.get("asin", "")),
            category=str(row.get("category", "")),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a goal ({type(error).__name__}: {error})") from error


def _pairs(options: Mapping[str, Any]) -> list[tuple[str, Any]]:  # JSON object
    """The entries of a mapping; tables that merge rows write None for keys of other rows."""
    return [(name, value) for name, value in options.items() if value is not None]


def _options_to_row(options: tuple[GoalOption, ...]) -> dict[str, str] | list[GoalOption]:
    pairs = [option for option in options if not isinstance(option, str)]
    is_mapping = bool(pairs) and len(dict(pairs)) == len(options)
    return dict(pairs) if is_mapping else list(options)


def _goal_option(option: Any) -> GoalOption:  # decoded JSON
    if isinstance(option, str):
        return option
    name, value = option
    return (str(name), str(value))


def _context(product: Product) -> dict[str, str]:
    return {
        "asin": product.asin,
        "query": product.query,
        "category": product.category,
        "product_category": product.product_category,
    }


def _combinations(product: Product) -> Iterator[tuple[tuple[str, str], ...]]:
    groups = sorted(dict(product.options).items())
    for values in itertools.product(*(values for _, values in groups)):
        yield tuple((name, value) for (name, _), value in zip(groups, values, strict=True))
