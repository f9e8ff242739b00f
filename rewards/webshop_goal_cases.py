"""Case tables of `WebshopGoal`: `ramify score --reward webshop_goal --cases webshop.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rewards.base import Sample, Score, Verdict
from rewards.cases import Case
from rewards.webshop.goal_reward import goal_reward
from rewards.webshop.goals import goal_from_row
from rewards.webshop.products import Product
from rewards.webshop_goal import WebshopGoal


class _PurchaseCase:
    """Judges one purchase that is given in full, without a catalogue; for case tables."""

    name = WebshopGoal.name
    in_process = True

    def score(self, sample: Sample) -> Score:
        """The official reward of the row's product, price and options."""
        row = sample.reference
        try:
            goal = goal_from_row(row["goal"])
        except ValueError as error:
            return Score(value=None, verdict=Verdict.BAD_REFERENCE, detail=str(error))
        found = goal_reward(
            _bought(row["purchased"]),
            goal,
            price=row["price"],
            options=row["options"],
            product_nouns=row["nouns_purchased"],
            goal_nouns=row["nouns_goal"],
        )
        verdict = Verdict.CORRECT if found.value == 1.0 else Verdict.WRONG
        return Score(value=found.value, verdict=verdict, parts=found.parts())


def read_case(row: Mapping[str, Any], folder: Path) -> Case:  # a row of the case table
    """A row of a WebShop case table: purchased, goal, price, options, nouns and the reward."""
    expected = row["reward"]
    return Case(
        id=str(row["id"]),
        reward=_PurchaseCase(),
        sample=Sample(completion="", reference=row),
        expected=None if expected is None else float(expected),
    )


def _bought(fields: Mapping[str, Any]) -> Product:  # a product as the official files write it
    return Product(
        asin="case",
        name=fields["name"],
        title=fields["Title"],
        description=fields["Description"],
        bullets=tuple(fields["BulletPoints"]),
        attributes=tuple(fields["Attributes"]),
        product_category=fields["product_category"],
        query=fields["query"],
    )
