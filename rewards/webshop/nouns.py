"""Nouns of a product name, for the type part of the reward.

The original tags names with a spaCy model, which package indices do not carry. `heuristic_nouns` is
our substitute: words of letters only, without a closed list of function words, number words, units and
common adjectives. `SpacyNouns` does what the original does when a model is installed. Which one is used
is a setting and never depends on what is installed: the same run must give the same rewards everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

NounFinder = Callable[[str], tuple[str, ...]]

_MIN_CHARS = 2
_WORD = re.compile(r"[^\W_]+")
_FUNCTION_WORDS = (
    "a about above after all also an and any are as at be been before being below between both but by "
    "can could do does each every few for from had has have her here hers him his how if in into is it "
    "its just made may might more most much must my no nor not of off on one only or other our out over "
    "own per should so some such than that the their them then there these they this those through to "
    "too under until up upon us use used uses using very via was we were what when where which while "
    "who whose why will with within without would you your"
)
_NUMBER_WORDS = (
    "two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred "
    "thousand first second third double triple single half dozen"
)
_UNITS = (
    "cm count ct dl ea fl fluid foot ft gal gallon gb gram grams hz inch inches kg khz km lb lbs liter "
    "liters mb mg mhz ml mm ounce ounces oz pc pcs pcs piece pieces pint pk pound pounds qt quart sq tb "
    "volt volts watt watts yard yards"
)
_ADJECTIVES = (
    "adjustable all-natural amazing ample anti automatic available basic beautiful best better big "
    "black blue bold breathable bright brown casual cheap classic clean clear comfortable comfy compact "
    "complete compatible cool cotton-like cozy creamy cute daily dark deep delicious dry durable easy "
    "elegant essential extra fast fashionable fine firm fit flat foldable formal free fresh full fun "
    "gentle genuine good gray great green grey handmade happy healthy heavy high hot ideal indoor large "
    "lightweight little long loose low lovely matte medium mini modern natural new nice official old "
    "orange organic original outdoor perfect personal pink plain plus portable premium pretty pure "
    "purple quick quiet red regular rich round rustic safe sensitive sexy sheer shiny short silky simple "
    "sleeveless slim small smart smooth soft solid special square stainless standard stretchy strong "
    "stylish super sweet tall thick thin tight tiny traditional ultra unique universal unisex vegan "
    "versatile vintage warm waterproof wet white wide wireless wonderful yellow young"
)
_NOT_NOUNS = frozenset(f"{_FUNCTION_WORDS} {_NUMBER_WORDS} {_UNITS} {_ADJECTIVES}".split())


@lru_cache(maxsize=65536)
def heuristic_nouns(name: str) -> tuple[str, ...]:
    """Lower-case words that are probably nouns, in order, with repetitions.

    Example:
        `heuristic_nouns("Acme Gentle Body Lotion, 16 fl oz")` is `("acme", "body", "lotion")`.
    """
    words = _WORD.findall(name.lower())
    return tuple(
        word
        for word in words
        if len(word) >= _MIN_CHARS and word.isalpha() and word not in _NOT_NOUNS
    )


class SpacyNouns:
    """Tokens that a spaCy model tags NOUN or PROPN, lower-cased, as the original reads names.

    Args:
        model: Name of an installed spaCy model; the original uses `en_core_web_sm`.

    Raises:
        ValueError: spaCy or the model is not installed.
    """

    def __init__(self, model: str = "en_core_web_sm") -> None:
        try:
            import spacy

            self._tag = spacy.load(model)
        except (ImportError, OSError) as error:
            raise ValueError(
                f"nouns: spacy needs spaCy and its model {model!r} ({error}); install both with "
                f"`pip install spacy` and `python -m spacy download {model}`, or use nouns: heuristic"
            ) from error
        self._cached = lru_cache(maxsize=65536)(self._nouns)

    def __call__(self, name: str) -> tuple[str, ...]:
        """The nouns of a name, in order, with repetitions."""
        return self._cached(name)

    def _nouns(self, name: str) -> tuple[str, ...]:
        return tuple(t.text.lower() for t in self._tag(name) if t.pos_ in ("NOUN", "PROPN"))
