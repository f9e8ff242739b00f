"""A catalogue of thirteen products that tests know by heart."""

from __future__ import annotations

from typing import Any

from rewards.webshop.catalogue import RawFiles, catalogue_from_raw
from rewards.webshop.config import ShopConfig
from rewards.webshop.shop import Shop
from rewards.webshop.state import ShopState

LOTION = "B00LOTION1"
INSTRUCTION = (
    "i need a body lotion that is fragrance free, and i would like lavender"
    ", and price lower than 40.00 dollars"
)


def item(asin: str, name: str, **other: Any) -> dict[str, Any]:  # entry of a product file
    return {
        "asin": asin,
        "name": name,
        "full_description": "",
        "pricing": "$5.00",
        "images": [],
        "product_category": "Beauty \u203a Skin Care \u203a Soaps",
        "small_description": [],
        "customization_options": "",
        "category": "beauty",
        "query": "soaps",
        **other,
    }


def raw_files() -> RawFiles:
    """One lotion with options, twelve soaps."""
    lotion = item(
        LOTION,
        "Acme Gentle Body Lotion",
        full_description="A lotion that is cruelty free.",
        pricing="$10.99",
        product_category="Beauty \u203a Skin Care \u203a Lotions",
        small_description=["Paraben free.", "For dry skin."],
        customization_options={
            "Scent": [{"value": " Lavender "}, {"value": "Vanilla/Oat"}],
            "size": [{"value": "2 fl oz"}, {"value": '52"w'}],
            "empty": None,
        },
        query=" Body Lotions ",
    )
    soaps = [item(f"B00SOAP{i:03}", f"Plain Soap Bar Number {i}") for i in range(12)]
    request = {
        "instruction": "i need a body lotion that is fragrance free, and i would like lavender.",
        "instruction_attributes": ["fragrance free"],
        "instruction_options": ["lavender"],
    }
    unusable = {**request, "instruction_attributes": []}
    return RawFiles(
        items=[lotion, *soaps],
        attributes={LOTION: {"attributes": ["fragrance free", "body lotion"]}},
        instructions={LOTION: [unusable, request]},
    )


def toy_shop(**settings: Any) -> Shop:  # fields of ShopConfig
    return Shop(catalogue_from_raw(raw_files()), ShopConfig(**settings))


def walk(shop: Shop, *actions: str) -> ShopState:
    """The state after these actions, all of which must be possible."""
    state = shop.start(shop.catalogue.goals[0])
    for action in actions:
        step = shop.step(state, action)
        assert step.is_valid, action
        state = step.state
    return state
