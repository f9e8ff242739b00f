from __future__ import annotations

import pytest

from rewards.webshop.products import (
    DUMMY_ATTRIBUTE,
    options_from_raw,
    prices_from_text,
    products_from_raw,
)
from tests.rewards.webshop.toy_shop import LOTION, item, raw_files


def test_a_product_is_read_by_the_official_rules() -> None:
    raw = raw_files()
    lotion = products_from_raw(raw.items, raw.attributes, seed=0)[0]
    assert lotion.asin == LOTION and lotion.name == lotion.title == "Acme Gentle Body Lotion"
    assert lotion.options == (
        ("scent", ("lavender", "vanilla | oat")),
        ("size", ("2 fl oz", '52"w')),
    )
    assert lotion.bullets == ("Paraben free.", "For dry skin.")
    assert lotion.attributes == ("fragrance free", "body lotion")
    assert lotion.query == "body lotions"
    assert (lotion.price, lotion.price_tag) == (10.99, "$10.99")


def test_unusable_and_repeated_identifiers_are_left_out() -> None:
    items = [item("nan", "a"), item("B0123456789", "b"), item("B1", "first"), item("B1", "second")]
    assert [product.name for product in products_from_raw(items, {}, seed=0)] == ["first"]


def test_a_product_without_attributes_gets_the_dummy_one() -> None:
    assert products_from_raw([item("B1", "a")], {}, seed=0)[0].attributes == (DUMMY_ATTRIBUTE,)


def test_a_single_bullet_may_be_a_plain_text() -> None:
    assert products_from_raw([item("B1", "a", small_description="x")], {}, 0)[0].bullets == ("x",)


@pytest.mark.parametrize("contents", ["", None, {}, {"size": None}])
def test_no_options_in_any_spelling(contents: dict[str, None] | str | None) -> None:
    assert options_from_raw(contents) == ()


@pytest.mark.parametrize(
    ("text", "prices"),
    [
        ("", (100.0,)),
        (None, (100.0,)),
        ("$10.99", (10.99,)),
        ("$1,049.50$1,200", (1049.5, 1200.0)),
        ("$1$2$3", (1.0, 2.0)),
    ],
)
def test_prices_are_read(text: str | None, prices: tuple[float, ...]) -> None:
    assert prices_from_text(text) == prices


@pytest.mark.parametrize("text", ["10.99", "$", "$x"])
def test_an_unreadable_price_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="pricing="):
        prices_from_text(text)


def test_a_price_range_is_drawn_by_seed_and_product_alone() -> None:
    ranged = [item(asin, "a", pricing="$10$20") for asin in ("B1", "B2", "B3")]
    forwards = [product.price for product in products_from_raw(ranged, {}, seed=1)]
    backwards = [product.price for product in products_from_raw(ranged[::-1], {}, seed=1)]
    other = [product.price for product in products_from_raw(ranged, {}, seed=2)]
    assert forwards == backwards[::-1] and forwards != other and len(set(forwards)) == 3
    assert all(10 <= price <= 20 for price in forwards)
    assert products_from_raw(ranged, {}, seed=1)[0].price_tag == "$10.0 to $20.0"
