"""The reward of a purchase: WebShop (Yao et al., arXiv 2207.01206) section 3, as its code computes it.

    R = r_type * (m_att + m_opt + r_price) / (num_goal_attributes + num_goal_options + 1)

Symbols: m_att = matched_attributes, m_opt = matched_options, r_price = is_price_ok. The quirks of the
official code are kept, see docs/rewards_webshop.md; `is_strict` is our stricter variant for training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rewards.webshop.goals import Goal
from rewards.webshop.matching import is_similar, option_matches, option_matches_strictly
from rewards.webshop.products import Product

CATEGORY_SEPARATOR = "\u203a"
TITLE_SCORE_WITHOUT_NOUNS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeMatch:
    """Is it the right kind of product?"""

    factor: float
    """r_type: 1, 0.5, 0.1 or 0."""
    is_query_same: bool
    """Both products were found by the same query."""
    is_category_same: bool
    """Two distinct parts of the category paths are equal."""
    title_score: float
    """Distinct common nouns over the number of nouns of the goal's name; 0.2 if it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoalReward:
    """The reward and its terms."""

    value: float
    """R, in [0, 1]; 1 is success."""
    type_match: TypeMatch
    """The factor and what it is made of."""
    matched_attributes: int
    """m_att."""
    matched_options: int
    """m_opt."""
    is_price_ok: bool
    """r_price: the price does not exceed the bound."""
    num_terms: int
    """Denominator: wanted attributes, wanted options, and one for the price."""

    def parts(self) -> dict[str, float]:
        """What attributes, options and price contribute; the sum is `value` up to rounding."""
        unit = self.type_match.factor / self.num_terms
        return {
            "attributes": unit * self.matched_attributes,
            "options": unit * self.matched_options,
            "price": unit * self.is_price_ok,
        }


def goal_reward(
    product: Product,
    goal: Goal,
    *,
    price: float,
    options: Mapping[str, str],
    product_nouns: Sequence[str],
    goal_nouns: Sequence[str],
    is_strict: bool = False,
) -> GoalReward:
    """Judges a purchase.

    Args:
        product: What was bought.
        goal: What was wanted.
        price: What was paid, in dollars.
        options: Chosen values by option group.
        product_nouns: Nouns of the product's name.
        goal_nouns: Nouns of the goal's name, with repetitions.
        is_strict: Compare options by `option_matches_strictly`; evaluation always uses False.

    Example:
        Two wanted attributes, two wanted options, everything right but one option: 4/5 = 0.8.
    """
    kind = type_match(product, goal, product_nouns, goal_nouns)
    num_attributes = sum(has_attribute(product, wanted) for wanted in goal.attributes)
    num_options = matched_options(goal, options, is_strict)
    num_terms = len(goal.attributes) + len(goal.options) + 1
    is_price_ok = price <= goal.price_upper
    return GoalReward(
        value=(num_attributes + num_options + is_price_ok) / num_terms * kind.factor,
        type_match=kind,
        matched_attributes=num_attributes,
        matched_options=num_options,
        is_price_ok=is_price_ok,
        num_terms=num_terms,
    )


def has_attribute(product: Product, wanted: str) -> bool:
    """True when an attribute is similar, or the title, the bullets or the description contain it."""
    if any(is_similar(attribute, wanted) for attribute in product.attributes):
        return True
    texts = (product.title, " ".join(product.bullets), product.description)
    return any(wanted in text.lower() for text in texts)


def matched_options(goal: Goal, options: Mapping[str, str], is_strict: bool = False) -> int:
    """Number of wanted options that some chosen value matches."""
    if is_strict:
        return sum(
            any(option_matches_strictly(group, value, wanted) for group, value in options.items())
            for wanted in goal.options
        )
    return sum(
        any(option_matches(value, wanted) for value in options.values()) for wanted in goal.options
    )


def type_match(
    product: Product, goal: Goal, product_nouns: Sequence[str], goal_nouns: Sequence[str]
) -> TypeMatch:
    """The type factor; a product that shares no noun with the goal is worth nothing."""
    score = TITLE_SCORE_WITHOUT_NOUNS
    if goal_nouns:
        score = len(set(product_nouns) & set(goal_nouns)) / len(goal_nouns)
    is_query_same = product.query == goal.query
    common = _path(product.product_category) & _path(goal.product_category)
    is_category_same = len(common) >= 2
    is_match = is_query_same or is_category_same or score > 0.2
    return TypeMatch(
        factor=_factor(score, is_match),
        is_query_same=is_query_same,
        is_category_same=is_category_same,
        title_score=score,
    )


def _factor(title_score: float, is_match: bool) -> float:
    if title_score == 0:
        return 0.0
    if title_score < 0.1:
        return 0.1
    return 1.0 if is_match else 0.5


def _path(text: str) -> set[str]:
    return {part.strip() for part in text.split(CATEGORY_SEPARATOR)}
