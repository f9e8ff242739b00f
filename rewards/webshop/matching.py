"""Fuzzy equality of attributes and options, as the official WebShop reward decides it.

Colour words: the list, and its order, of princeton-nlp/WebShop (MIT), `engine/normalize.py`. Order
matters: the first entry that occurs in a text replaces it.
"""

from __future__ import annotations

import re
from functools import lru_cache

from rapidfuzz import fuzz, utils

from rewards.webshop.goals import GoalOption

THRESHOLD = 85
_COLOR_WORDS = (
    "alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown "
    "burgundy camel camo caramel champagne charcoal cheetah chestnut chocolate christmas coffee "
    "cognac copper coral cranberry cream crystal dark denim eggplant elephant espresso fuchsia "
    "gold granite grape graphite grass gray green grey heather indigo ivory ivy khaki lavender "
    "lemon leopard light lilac lime magenta maroon mauve merlot midnight mint mocha multicolor "
    "mushroom mustard natural navy nude olive orange peach pewter pink plum purple rainbow red "
    "rose royal rust sand sapphire seashell silver skull slate steel stone stonewash sunflower "
    "tan taupe teal tiger turquoise violet walnut wheat white wine yellow"
)
COLORS = tuple(_COLOR_WORDS.split())
_WORD = re.compile(r"[^\W_]+")


@lru_cache(maxsize=65536)
def is_similar(text: str, other: str) -> bool:
    """True when token_set_ratio, rounded to a whole number, is above 85.

    The original (thefuzz 0.19) returns whole numbers; without rounding, pairs at 85.2 would differ.
    """
    ratio = fuzz.token_set_ratio(text, other, processor=utils.default_process)
    return round(ratio) > THRESHOLD


def normalized_color(option: GoalOption) -> str:
    """The first colour word that occurs in the text, else the text.

    A pair (group, value) of a synthetic goal is handled as the original does: a colour counts only
    if the group or the value *is* that word, and otherwise the text of the pair is compared.

    Example:
        `navy blue` and `light blue` become `blue`, `dark navy` and `dark green` become `dark`,
        `bored` becomes `red`; `("size", "small")` becomes `('size', 'small')`.
    """
    return next((color for color in COLORS if color in option), str(option))


def option_matches(chosen: str, wanted: GoalOption) -> bool:
    """The official test: similar after colour normalisation."""
    return is_similar(normalized_color(chosen), normalized_color(wanted))


def option_matches_strictly(group: str, chosen: str, wanted: GoalOption) -> bool:
    """A stricter test for training: the same words, the full colour text, the right group.

    Example:
        `small` does not match `x-small`, nor `dark green` `dark navy`.
    """
    if isinstance(wanted, str):
        return _words(chosen) == _words(wanted)
    return group == wanted[0] and _words(chosen) == _words(wanted[1])


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))
