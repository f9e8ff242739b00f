"""Generates a catalogue in the official file format: typed templates, one seed, no download.

Every goal is solvable by construction: its attributes and options belong to the product it was written
for, and its bound lies above that product's price. Same size and seed give the same bytes, on every
machine and in every Python version (only `random.Random` with text seeds is used).
"""

from __future__ import annotations

import random
from typing import Any

from rewards.webshop.catalogue import RawFiles
from rewards.webshop.departments import DEPARTMENTS, Department

MAX_PRODUCTS = 1_000_000
_ASIN_CHARS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SYLLABLES = "bar den fol gar hul jor kel lum mer nor pel quil ros sel tam vor wex zan"
_STYLES = "Classic Compact Cozy Daily Deluxe Elegant Modern Rustic Slim Simple Studio Urban"
_OPENINGS = ("i am looking for", "i need", "find me", "can you get me", "show me", "i want to buy")
_RANGE_FRAC = 0.15
_HUMAN_GOALS_PER_PRODUCT = 2


def generate(num_products: int, seed: int = 0) -> RawFiles:
    """The three files of an invented catalogue.

    Args:
        num_products: Between 1 and a million.
        seed: Any integer; product number i does not depend on `num_products`.

    Raises:
        ValueError: `num_products` is out of range.
    """
    if not 1 <= num_products <= MAX_PRODUCTS:
        raise ValueError(f"num_products={num_products} must lie between 1 and {MAX_PRODUCTS}")
    items, attributes, instructions = [], {}, {}
    for number in range(num_products):
        rng = random.Random(f"product:{seed}:{number}")
        department = rng.choice(DEPARTMENTS)
        category, noun = rng.choice(department.kinds)
        traits = rng.sample(department.attributes, rng.randint(2, 4))
        item = _item(rng, department, category, noun, traits)
        item["asin"] = asin = _asin(rng, number)
        items.append(item)
        attributes[asin] = _attribute_row(rng, noun, traits)
        instructions[asin] = [
            _instruction(rng, noun, traits, item["customization_options"])
            for _ in range(_HUMAN_GOALS_PER_PRODUCT)
        ]
    return RawFiles(items=items, attributes=attributes, instructions=instructions)


def _item(
    rng: random.Random, department: Department, category: str, noun: str, traits: list[str]
) -> dict[str, Any]:  # one entry of the product file
    brand = "".join(rng.sample(_SYLLABLES.split(), 2)).title()
    style = rng.choice(_STYLES.split())
    title = f"{brand} {style} {noun.title()} with {traits[0].title()}"
    return {
        "name": title,
        "full_description": f"{brand} makes this {noun} for every day. "
        + " ".join(f"It is {trait}." for trait in traits[:-1]),
        "pricing": _pricing(rng, department.prices),
        "images": [],
        "product_category": " \u203a ".join((department.path, category, _plural(noun).title())),
        "small_description": [f"{trait.capitalize()}, and made to last." for trait in traits],
        "customization_options": _options(rng, department),
        "category": department.name,
        "query": _plural(noun),
    }


def _options(rng: random.Random, department: Department) -> dict[str, list[dict[str, Any]]] | str:
    """Zero to all groups of the department, each with two to four values; empty text for none."""
    groups = [group for group in department.options if rng.random() < 0.8]
    chosen = {
        name: [
            {"value": value, "image": None}
            for value in rng.sample(values, min(len(values), rng.randint(2, 4)))
        ]
        for name, values in groups
    }
    return chosen or ""


def _attribute_row(rng: random.Random, noun: str, traits: list[str]) -> dict[str, Any]:
    wanted = rng.sample(traits, rng.randint(1, min(2, len(traits))))
    return {
        "attributes": [*traits, noun],
        "instruction": f"Find me {', '.join(wanted)} {_plural(noun)}",
        "instruction_attributes": wanted,
    }


def _instruction(
    rng: random.Random,
    noun: str,
    traits: list[str],
    options: dict[str, list[dict[str, Any]]] | str,
) -> dict[str, Any]:  # one crowd instruction
    """A request with one to three attributes and up to two options."""
    wanted = rng.sample(traits, rng.randint(1, min(3, len(traits))))
    groups = list(options.values()) if isinstance(options, dict) else []
    picked = rng.sample(groups, rng.randint(0, min(2, len(groups))))
    values = [rng.choice(group)["value"].replace("/", " | ") for group in picked]
    text = f"{rng.choice(_OPENINGS)} a {noun} that is {' and '.join(wanted)}"
    choice = f", and i would like {' and '.join(values)}" if values else ""
    return {
        "instruction": f"{text}{choice}.",
        "instruction_attributes": wanted,
        "instruction_options": values,
    }


def _pricing(rng: random.Random, prices: tuple[int, int]) -> str:
    low = rng.randint(100 * prices[0], 100 * prices[1])
    high = low + rng.randint(100, 1000)
    is_range = rng.random() < _RANGE_FRAC
    return f"${low / 100:.2f}" + (f"${high / 100:.2f}" if is_range else "")


def _asin(rng: random.Random, number: int) -> str:
    """Ten characters: B, five random ones, and the number in base 36, so that none repeats."""
    digits = ""
    for _ in range(4):
        number, digit = divmod(number, len(_ASIN_CHARS))
        digits = _ASIN_CHARS[digit] + digits
    return "B" + "".join(rng.choices(_ASIN_CHARS, k=5)) + digits


def _plural(noun: str) -> str:
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")
