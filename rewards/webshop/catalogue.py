"""The catalogue: products and goals, from official files or from generated ones of the same format.

Official files (not distributed here, princeton-nlp/WebShop says where they are): `items_shuffle*.json`,
`items_ins_v2*.json`, `items_human_ins.json`, all in one folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rewards.webshop.goals import Goal, GoalKind, human_goals, shuffled, synthetic_goals
from rewards.webshop.products import Product, products_from_raw

Split = Literal["test", "validation", "train"]
NUM_TEST = 500
NUM_VALIDATION = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFiles:
    """Decoded content of the three official files."""

    items: list[dict[str, Any]]  # decoded JSON
    """`items_shuffle*.json`: the products."""
    attributes: dict[str, dict[str, Any]]  # decoded JSON
    """`items_ins_v2*.json`: asin -> attributes, synthetic instruction."""
    instructions: dict[str, list[dict[str, Any]]]  # decoded JSON
    """`items_human_ins.json`: asin -> crowd instructions."""


class Catalogue:
    """Products and goals with their indices; read-only, shared by all sessions.

    Args:
        products: In file order; at least one.
        goals: In the order of the experiments (test goals first).
    """

    def __init__(self, products: tuple[Product, ...], goals: tuple[Goal, ...]) -> None:
        if not products:
            raise ValueError("the catalogue holds no product; check the product file")
        self.products = products
        self.goals = goals
        self.by_asin: Mapping[str, Product] = {product.asin: product for product in products}
        self._by_goal_id: Mapping[str, Goal] = {goal.id: goal for goal in goals}

    def goal(self, goal_id: str) -> Goal:
        """The goal of that name.

        Raises:
            ValueError: There is no such goal.
        """
        if goal_id not in self._by_goal_id:
            raise ValueError(
                f"goal {goal_id!r} is not among the {len(self.goals)} goals of this catalogue; the "
                "row was made with another catalogue, kind of goals or seed"
            )
        return self._by_goal_id[goal_id]

    def split(self, name: Split) -> tuple[Goal, ...]:
        """Goals 0-499 (test), 500-1499 (validation), the rest (train), as RAGEN splits them."""
        end = NUM_TEST + NUM_VALIDATION
        parts = {
            "test": self.goals[:NUM_TEST],
            "validation": self.goals[NUM_TEST:end],
            "train": self.goals[end:],
        }
        return parts[name]


def catalogue_from_raw(raw: RawFiles, *, goal_kind: GoalKind = "human", seed: int = 0) -> Catalogue:
    """Builds the catalogue; `seed` decides prices of ranges and price bounds."""
    products = products_from_raw(raw.items, raw.attributes, seed)
    if goal_kind == "human":
        goals = human_goals(products, raw.instructions, seed)
    else:
        goals = synthetic_goals(products, raw.attributes, seed)
    return Catalogue(products, shuffled(goals))


def read_files(folder: str | Path, num_products: int | None = None) -> RawFiles:
    """Reads the three files of a folder.

    Args:
        folder: Holds exactly one file of each kind.
        num_products: Only so many entries of the product file (they are shuffled), None for all.

    Raises:
        ValueError: A file is missing, or there are several of a kind.
    """
    items = json.loads(_only(Path(folder), "items_shuffle*.json").read_text(encoding="utf-8"))
    return RawFiles(
        items=items[:num_products],
        attributes=json.loads(
            _only(Path(folder), "items_ins_v2*.json").read_text(encoding="utf-8")
        ),
        instructions=json.loads(
            _only(Path(folder), "items_human_ins*.json").read_text(encoding="utf-8")
        ),
    )


def write_files(raw: RawFiles, folder: str | Path) -> None:
    """Writes the three files; equal content gives equal bytes."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("items_shuffle.json", raw.items),
        ("items_ins_v2.json", raw.attributes),
        ("items_human_ins.json", raw.instructions),
    ):
        (target / name).write_text(json.dumps(content, sort_keys=True), encoding="utf-8")


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ValueError(
            f"folder {str(folder)!r} must hold exactly one file {pattern}, found {names}; the files "
            "come from princeton-nlp/WebShop (setup.sh), or use source: generated"
        )
    return found[0]
