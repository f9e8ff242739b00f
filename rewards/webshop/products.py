"""Products, and how one entry of an official product file becomes one.

Rules of princeton-nlp/WebShop (MIT), read in its loader: title = `name`; option names lower-cased;
option values stripped, `/` written ` | `, lower-cased; no price means 100 dollars; without attributes a
product has one dummy attribute; the query is lower-cased and stripped.

Deviation: a price range is drawn with a generator keyed by (seed, asin), so that a product costs the
same in every process; the original draws before its seed is set.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_ASIN_CHARS = 10
DEFAULT_PRICE = 100.0
DUMMY_ATTRIBUTE = "DUMMY_ATTR"

Options = tuple[tuple[str, tuple[str, ...]], ...]
"""Option groups in catalogue order: name and values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One product; everything that pages show and the reward reads."""

    asin: str
    """Identifier, at most 10 characters."""
    name: str
    """Name that the type part of the reward reads."""
    title: str
    """What pages show; the same text as `name` in the official files."""
    description: str = ""
    """Text of the description page."""
    bullets: tuple[str, ...] = ()
    """Lines of the features page."""
    attributes: tuple[str, ...] = (DUMMY_ATTRIBUTE,)
    """What the attribute part of the reward reads first."""
    options: Options = ()
    """Choices of the item page."""
    price: float = DEFAULT_PRICE
    """What the buyer pays, in dollars: the draw from a price range."""
    price_tag: str = f"${DEFAULT_PRICE}"
    """What pages show: `$10.99` or `$10.0 to $20.0`."""
    category: str = ""
    """Department: beauty, garden, grocery, electronics or fashion in the official files."""
    product_category: str = ""
    """Path of categories, joined by U+203A."""
    query: str = ""
    """Search that found the product when the catalogue was made."""


def products_from_raw(
    items: Sequence[Mapping[str, Any]],  # decoded JSON of the product file
    attributes: Mapping[str, Mapping[str, Any]],  # decoded JSON of the attribute file
    seed: int,
) -> tuple[Product, ...]:
    """Products in file order; identifiers that are "nan", too long or seen before are left out.

    Args:
        items: Entries of `items_shuffle*.json`.
        attributes: Content of `items_ins_v2*.json`: asin -> `attributes`, ...
        seed: Catalogue seed, for price ranges.

    Raises:
        ValueError: A price or an option cannot be read.
    """
    found: dict[str, Product] = {}
    for item in items:
        asin = item["asin"]
        if asin != "nan" and len(asin) <= MAX_ASIN_CHARS and asin not in found:
            found[asin] = _product(item, attributes.get(asin, {}), seed)
    return tuple(found.values())


def options_from_raw(contents: Mapping[str, Any] | str | None) -> Options:  # decoded JSON
    """The option groups of `customization_options`; empty text or None means none."""
    if not contents or isinstance(contents, str):
        return ()
    return tuple(
        (name.lower(), tuple(_option_value(entry["value"]) for entry in entries))
        for name, entries in contents.items()
        if entries is not None
    )


def prices_from_text(pricing: str | None) -> tuple[float, ...]:
    """The one or two dollar amounts of `$x` or `$x$y`; (100.0,) when there is no price.

    Raises:
        ValueError: No amount follows a dollar sign.

    Example:
        `prices_from_text("$1,049.50$1,200")` is `(1049.5, 1200.0)`.
    """
    if not pricing:
        return (DEFAULT_PRICE,)
    amounts = [re.sub(r"[^0-9.]", "", piece) for piece in pricing.split("$")[1:]]
    try:
        prices = tuple(float(amount) for amount in amounts[:2])
    except ValueError as error:
        raise ValueError(f"pricing={pricing!r} holds no readable amount after a '$'") from error
    if not prices:
        raise ValueError(f"pricing={pricing!r} holds no '$'; write '$10.99', '$10$20' or ''")
    return prices


def _product(item: Mapping[str, Any], extra: Mapping[str, Any], seed: int) -> Product:
    bullets = item["small_description"]
    prices = prices_from_text(item.get("pricing"))
    return Product(
        asin=item["asin"],
        name=item["name"],
        title=item["name"],
        description=item["full_description"] or "",
        bullets=tuple(bullets) if isinstance(bullets, list) else (bullets,),
        attributes=tuple(extra.get("attributes") or (DUMMY_ATTRIBUTE,)),
        options=options_from_raw(item["customization_options"]),
        price=_draw(prices, seed, item["asin"]),
        price_tag=" to ".join(f"${price}" for price in prices),
        category=item["category"],
        product_category=item["product_category"],
        query=item["query"].lower().strip(),
    )


def _option_value(text: str) -> str:
    return text.strip().replace("/", " | ").lower()


def _draw(prices: tuple[float, ...], seed: int, asin: str) -> float:
    if len(prices) == 1:
        return prices[0]
    return random.Random(f"price:{seed}:{asin}").uniform(*prices)
