from __future__ import annotations

import json
import os
from pathlib import Path

from rewards.webshop.pages import plain_text, rich_text
from rewards.webshop.shop import Shop
from tests.rewards.webshop.toy_shop import INSTRUCTION, LOTION, toy_shop, walk

GOLDEN = Path(__file__).resolve().parents[2] / "data" / "webshop" / "golden_pages.json"
HEAD = f"Instruction: [SEP] {INSTRUCTION} [SEP] Back to Search"
OPEN = ("search[lotion]", f"click[{LOTION.lower()}]")
WALK = (
    "search[plain soap]", "click[next >]", "click[next >]", "click[< prev]", "click[b00soap011]",
    "click[reviews]", "click[< prev]", "click[< prev]", "search[body lotion]", "click[b00lotion1]",
    "click[features]", "click[< prev]", "click[lavender]", 'click[52"w]', "click[attributes]",
    "click[< prev]", "click[description]", "click[< prev]", "click[buy now]",
)  # fmt: skip


def observed(*actions: str, shop: Shop | None = None) -> str:
    shop = shop or toy_shop()
    return shop.observe(walk(shop, *actions))


def test_the_search_page() -> None:
    assert observed() == f"WebShop [SEP] Instruction: [SEP] {INSTRUCTION} [SEP] Search"


def test_the_first_page_of_results_has_no_way_back() -> None:
    text = observed("search[lotion]")
    assert text == (
        f"{HEAD} [SEP] Page 1 (Total results: 1) [SEP] Next > [SEP] {LOTION} [SEP] "
        "Acme Gentle Body Lotion [SEP] $10.99"
    )


def test_the_second_page_has_the_rest_and_a_way_back() -> None:
    text = observed("search[soap]", "click[next >]")
    assert text == (
        f"{HEAD} [SEP] Page 2 (Total results: 12) [SEP] < Prev [SEP] Next > [SEP] "
        "B00SOAP010 [SEP] Plain Soap Bar Number 10 [SEP] $5.0 [SEP] "
        "B00SOAP011 [SEP] Plain Soap Bar Number 11 [SEP] $5.0"
    )


def test_a_page_past_the_end_shows_no_product_and_still_goes_on() -> None:
    text = observed("search[soap]", "click[next >]", "click[next >]")
    assert text == f"{HEAD} [SEP] Page 3 (Total results: 12) [SEP] < Prev [SEP] Next >"


ITEM = (
    f"{HEAD} [SEP] < Prev [SEP] scent [SEP] lavender [SEP] vanilla | oat [SEP] size [SEP] 2 fl oz [SEP] "
    '52"w [SEP] Acme Gentle Body Lotion [SEP] Price: $10.99 [SEP] Rating: N.A. [SEP] Description [SEP] '
    "Features [SEP] Reviews [SEP] Buy Now"
)


def test_the_item_page_does_not_show_choices() -> None:
    assert observed(*OPEN) == observed(*OPEN, "click[lavender]") == ITEM


def test_the_item_page_links_to_attributes_when_configured() -> None:
    text = observed(*OPEN, shop=toy_shop(show_attributes=True))
    assert text == ITEM.replace("Reviews [SEP]", "Reviews [SEP] Attributes [SEP]")


def test_sub_pages_show_bullets_the_description_nothing_or_attributes() -> None:
    shop = toy_shop(show_attributes=True)
    pages = [
        observed(*OPEN, f"click[{name}]", shop=shop).removeprefix(f"{HEAD} [SEP] < Prev")
        for name in ("features", "description", "reviews", "attributes")
    ]
    assert pages == [
        " [SEP] Paraben free. [SEP] For dry skin.",
        " [SEP] A lotion that is cruelty free.",
        "",
        " [SEP] fragrance free [SEP] body lotion [SEP] beauty [SEP] body lotions [SEP] "
        "Beauty \u203a Skin Care \u203a Lotions",
    ]


def test_rich_text_marks_buttons_choices_and_visited_products() -> None:
    shop = toy_shop(observation_mode="text_rich")
    text = observed(*OPEN, "click[lavender]", 'click[52"w]', shop=shop)
    assert text == (
        'You have clicked 52"w.\nYou have clicked lavender.\n'
        f"Instruction:\n{INSTRUCTION}\n[button] Back to Search [button_]\n[button] < Prev [button_]\n"
        "scent\n  [clicked button] lavender [clicked button_]\n  [button] vanilla | oat [button_]\n"
        'size\n  [button] 2 fl oz [button_]\n  [clicked button] 52"w [clicked button_]\n'
        "Acme Gentle Body Lotion\nPrice: $10.99\nRating: N.A.\n[button] Description [button_]\n"
        "[button] Features [button_]\n[button] Reviews [button_]\n[button] Buy Now [button_]\n"
    )
    assert observed(*OPEN, "click[< prev]", shop=shop).endswith(
        f"[button] Next > [button_]\n\n[clicked button] {LOTION} [clicked button_]\n"
        "Acme Gentle Body Lotion\n$10.99\n"
    )


def test_a_fixed_walk_shows_the_golden_pages() -> None:
    shop = toy_shop(show_attributes=True, max_steps=99)
    states = [walk(shop, *WALK[:end]) for end in range(len(WALK) + 1)]
    pages = [
        {"text": plain_text(shop.page(state)), "text_rich": rich_text(shop.page(state))}
        for state in states
    ]
    if os.environ.get("UPDATE_GOLDEN") == "1":
        GOLDEN.write_text(json.dumps({"actions": WALK, "pages": pages}, indent=1) + "\n")
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert golden == {"actions": list(WALK), "pages": pages}
