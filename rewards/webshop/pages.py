"""Pages as lists of elements, and the two texts that an agent may see of them.

A page is built once; `plain_text` and `rich_text` are its observations, `click_targets` what can be
clicked. Forms: the official templates (princeton-nlp/WebShop, MIT) as its text environment shows them.

Differences in `rich_text`:

* texts are stripped (the original keeps the indentation of its templates around descriptions);
* a chosen value is marked whatever characters it has; the original looks for it in a quoted URL and
  misses values with a quotation mark or beyond ASCII, such as `52"w x 84"l`;
* the page after the purchase shows the score only, not the code for crowd workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rewards.webshop.goals import Goal
from rewards.webshop.products import Product
from rewards.webshop.state import PageKind, ShopState

PAGE_SIZE = 10
SEPARATOR = " [SEP] "
SEARCH = "Search"
BACK_TO_SEARCH = "Back to Search"
PREVIOUS = "< Prev"
NEXT = "Next >"
BUY_NOW = "Buy Now"
RATING = "Rating: N.A."


class Mark(StrEnum):
    """What an element is."""

    TEXT = "text"
    """Not clickable."""
    BUTTON = "button"
    """Clickable by its text in lower case."""
    LINK = "link"
    """The identifier of a product; clickable in lower case."""
    OPTION = "option"
    """A value of an option group; clickable as it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """One visible text."""

    text: str
    """As shown."""
    mark: Mark = Mark.TEXT
    """What it is."""
    group: str = ""
    """Option group of an option."""
    is_clicked: bool = False
    """True for chosen options and visited products."""


Page = tuple[Element, ...]


def search_page(goal: Goal) -> Page:
    """The start page."""
    return _page((_text("WebShop"), *_instruction(goal), _button(SEARCH)))


def results_page(goal: Goal, state: ShopState, hits: Sequence[Product]) -> Page:
    """Ten of the hits; past the end there are none, but `Next >` stays."""
    start = (state.page_number - 1) * PAGE_SIZE
    back = [_button(PREVIOUS)] if state.page_number > 1 else []
    count = _text(f"Page {state.page_number} (Total results: {len(hits)})")
    head = (*_instruction(goal), _button(BACK_TO_SEARCH), count, *back, _button(NEXT))
    shown = [
        element
        for product in hits[start : start + PAGE_SIZE]
        for element in _hit(product, product.asin in state.visited)
    ]
    return _page((*head, *shown))


def item_page(goal: Goal, state: ShopState, product: Product, has_attributes: bool) -> Page:
    """One product: options, title, price, sub pages, purchase."""
    subs = ["Description", "Features", "Reviews", *(["Attributes"] if has_attributes else [])]
    facts = (product.title, f"Price: {product.price_tag}", RATING)
    return _page(
        (
            *_item_head(goal),
            *_options(product, {value for _, value in state.options}),
            *map(_text, facts),
            *map(_button, subs),
            _button(BUY_NOW),
        )
    )


def sub_page(goal: Goal, kind: PageKind, product: Product) -> Page:
    """Description, features, reviews or attributes of a product."""
    paths = (product.category, product.query, product.product_category)
    lines = {
        PageKind.DESCRIPTION: (product.description,),
        PageKind.FEATURES: product.bullets,
        PageKind.REVIEWS: (),
        PageKind.ATTRIBUTES: (*product.attributes, *paths),
    }
    return _page((*_item_head(goal), *map(_text, lines[kind])))


def done_page(reward: float) -> Page:
    """The page after the purchase; nothing is clickable."""
    thanks = "Thank you for shopping with us!"
    return _page(map(_text, (thanks, "Your score (min 0.0, max 1.0)", str(reward))))


def plain_text(page: Page) -> str:
    """Observation mode `text`: the visible texts, joined by ` [SEP] `."""
    return SEPARATOR.join(element.text for element in page)


def rich_text(page: Page) -> str:
    """Observation mode `text_rich`: one line per text, clickable ones in brackets."""
    chosen = [e.text for e in page if e.mark is Mark.OPTION and e.is_clicked]
    notes = [f"You have clicked {text}.\n" for text in reversed(chosen)]
    return "".join(notes) + "".join(_rich_line(element) + "\n" for element in page)


def click_targets(page: Page) -> dict[str, Element]:
    """What a click can name: buttons, then products, then options.

    Two elements of the same name shadow each other and the last counts, as in the original: of two
    option groups with the same value only the second can be chosen.
    """
    buttons = {e.text.lower(): e for e in page if e.mark is Mark.BUTTON}
    links = {e.text.lower(): e for e in page if e.mark is Mark.LINK}
    options = {e.text: e for e in page if e.mark is Mark.OPTION}
    return buttons | links | options


def _page(elements: Sequence[Element] | Iterator[Element]) -> Page:
    """The elements with a visible text; an empty paragraph shows nothing."""
    return tuple(element for element in elements if element.text)


def _text(text: str) -> Element:
    return Element(text=text.strip())


def _button(text: str) -> Element:
    return Element(text=text, mark=Mark.BUTTON)


def _instruction(goal: Goal) -> tuple[Element, Element]:
    return _text("Instruction:"), _text(goal.instruction)


def _item_head(goal: Goal) -> tuple[Element, ...]:
    return (*_instruction(goal), _button(BACK_TO_SEARCH), _button(PREVIOUS))


def _hit(product: Product, is_visited: bool) -> tuple[Element, ...]:
    link = Element(text=product.asin, mark=Mark.LINK, is_clicked=is_visited)
    return link, _text(product.title), _text(product.price_tag)


def _options(product: Product, chosen: set[str]) -> Iterator[Element]:
    for group, values in product.options:
        yield _text(group)
        for value in values:
            yield Element(
                text=value, mark=Mark.OPTION, group=group.lower(), is_clicked=value in chosen
            )


def _rich_line(element: Element) -> str:
    word = "clicked button" if element.is_clicked else "button"
    button = f"[{word}] {element.text} [{word}_]"
    return {
        Mark.TEXT: element.text,
        Mark.BUTTON: button,
        Mark.LINK: "\n" + button,
        Mark.OPTION: "  " + button,
    }[element.mark]
