from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from rewards.webshop.goal_reward import goal_reward, type_match
from rewards.webshop.goals import goal_from_row
from rewards.webshop.products import Product

CASES = Path(__file__).resolve().parents[2] / "data" / "verifier_cases" / "webshop.jsonl"
ROWS = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
JUDGED = [row for row in ROWS if row["reward"] is not None]
REFUSED = [row for row in ROWS if row["reward"] is None]


def bought(row: dict[str, Any]) -> Product:  # one case
    fields = row["purchased"]
    return Product(
        asin="B1",
        name=fields["name"],
        title=fields["Title"],
        description=fields["Description"],
        bullets=tuple(fields["BulletPoints"]),
        attributes=tuple(fields["Attributes"]),
        product_category=fields["product_category"],
        query=fields["query"],
    )


def name(row: dict[str, Any]) -> str:  # one case
    return str(row["id"])


def test_all_cases_are_there() -> None:
    assert (len(JUDGED), len(REFUSED)) == (19, 2)


@pytest.mark.parametrize("row", JUDGED, ids=name)
def test_every_case_has_the_official_reward_and_terms(row: dict[str, Any]) -> None:
    goal, info = goal_from_row(row["goal"]), row["info"]
    found = goal_reward(
        bought(row),
        goal,
        price=row["price"],
        options=row["options"],
        product_nouns=row["nouns_purchased"],
        goal_nouns=row["nouns_goal"],
    )
    assert found.value == pytest.approx(row["reward"], abs=1e-6)  # written with six decimals
    assert found.type_match.factor == info["r_type"]
    assert found.type_match.is_query_same == info["query_match"]
    assert found.type_match.is_category_same == info["category_match"]
    assert found.type_match.title_score == pytest.approx(info["title_score"], abs=1e-6)
    assert found.matched_attributes / len(goal.attributes) == pytest.approx(info["r_att"], abs=1e-6)
    assert found.matched_options == pytest.approx(info.get("r_option", 0) * len(goal.options))
    assert found.is_price_ok == info["r_price"]
    assert 1 / found.num_terms == pytest.approx(info["w_price"], abs=1e-6)
    assert math.fsum(found.parts().values()) == pytest.approx(found.value, abs=1e-12)


@pytest.mark.parametrize("row", REFUSED, ids=name)
def test_a_goal_that_the_original_cannot_judge_is_refused(row: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"no attributes|price_upper"):
        goal_from_row(row["goal"])


@pytest.mark.parametrize(("case", "strict"), [("w001", 1.0), ("w016", 0.75), ("w018", 0.75)])
def test_the_strict_variant_compares_whole_words(case: str, strict: float) -> None:
    row = next(row for row in ROWS if row["id"] == case)
    found = goal_reward(
        bought(row),
        goal_from_row(row["goal"]),
        price=row["price"],
        options=row["options"],
        product_nouns=row["nouns_purchased"],
        goal_nouns=row["nouns_goal"],
        is_strict=True,
    )
    assert found.value == strict


@pytest.mark.parametrize(
    ("path", "product_nouns", "goal_nouns", "factor", "title_score"),
    [
        ("Beauty \u203a Tools", "body", "body " * 5 + "lotion", 0.5, 1 / 6),  # one part, one of six
        ("Beauty\u203aTools \u203a Lotions", "body", "body " * 5 + "lotion", 1.0, 1 / 6),
        ("Beauty \u203a Beauty", "body", "a b c d e body", 0.5, 1 / 6),  # parts must be distinct
        ("Tools", "body lotion", "a b c d e body lotion", 1.0, 2 / 7),
        ("Tools", "body", "a b c d body", 0.5, 0.2),  # above 0.2 is needed, 0.2 is not enough
        ("Tools", "body", "a b c d e f g h i body", 0.5, 0.1),  # below 0.1 is needed for 0.1
    ],
)
def test_the_type_factor_at_its_limits(
    path: str, product_nouns: str, goal_nouns: str, factor: float, title_score: float
) -> None:
    product = Product(asin="B1", name="x", title="x", product_category=path, query="brushes")
    goal = goal_from_row(
        ROWS[0]["goal"] | {"product_category": "Lotions \u203a Beauty", "query": "lotions"}
    )
    found = type_match(product, goal, product_nouns.split(), goal_nouns.split())
    assert (found.factor, found.title_score) == (factor, title_score)
