"""Search over the catalogue: BM25 with k1 0.9 and b 0.4, at most 50 hits.

The original searches with Lucene through pyserini (Java). Here bm25s does, with Lucene's formula, a
stop list and a plural stemmer; the ranking is close to but not the same as Lucene's, so results on the
official products are not comparable hit by hit.

Deterministic: scores are rounded to four decimals (float32 sums differ in the last bits between
processors), ties go by catalogue order, and products that share no term with the query are no hits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import bm25s
import numpy as np

from rewards.webshop.products import Product

MAX_HITS = 50
MAX_QUERY_TERMS = 1024
"""Later terms of a query are ignored; Lucene refuses queries with more clauses."""
_SCORE_DECIMALS = 4
_CACHED_QUERIES = 4096
_TERM = re.compile(r"[0-9]+(?:\.[0-9]+)+|[^\W_]+")
_FUNCTION_WORDS = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there "
    "these they this to was will with"
)
_STOP_WORDS = frozenset(_FUNCTION_WORDS.split())


class SearchIndex:
    """Finds products by their text; the same words always give the same list.

    Args:
        products: The catalogue, at least one product.

    Example:
        `SearchIndex(products).search("body lotion")` lists up to 50 products, best first.
    """

    def __init__(self, products: Sequence[Product]) -> None:
        self._products = products
        self._bm25 = bm25s.BM25(k1=0.9, b=0.4, method="lucene", backend="numpy")
        self._bm25.index([terms(document(p)) for p in products], show_progress=False)
        self._cached = lru_cache(maxsize=_CACHED_QUERIES)(self._search)

    def search(self, text: str) -> tuple[Product, ...]:
        """At most 50 products that share a term with the text, best first."""
        return self._cached(text)

    def _search(self, text: str) -> tuple[Product, ...]:
        token_ids = self._bm25.get_tokens_ids(terms(text)[:MAX_QUERY_TERMS])
        if not token_ids:
            return ()
        scores = np.round(self._bm25.get_scores_from_ids(token_ids), _SCORE_DECIMALS)
        candidates = np.flatnonzero(scores >= _threshold(scores))
        order = np.argsort(-scores[candidates], kind="stable")[:MAX_HITS]
        return tuple(self._products[i] for i in candidates[order])


def document(product: Product) -> str:
    """The text that is searched: title, description, first bullet, options; lower case."""
    options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in product.options)
    parts = (product.title, product.description, *product.bullets[:1], options)
    return " ".join(parts).lower()


def terms(text: str) -> list[str]:
    """Search terms: words and numbers in lower case, stemmed, without stop words.

    Example:
        `terms("The 7.5 wide shoes, for women")` is `["7.5", "wide", "shoe", "women"]`.
    """
    words = _TERM.findall(text.lower())
    return [stem(word) for word in words if word not in _STOP_WORDS]


def stem(word: str) -> str:
    """Removes a plural ending (the S-stemmer, Harman 1991); other endings stay.

    Example:
        `batteries` becomes `battery`, `shoes` `shoe`; `glass` and `gas` stay.
    """
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("us", "ss")):
        return word
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    return word[:-1]


def _threshold(scores: np.ndarray) -> float:
    """Smallest score that can be a hit: positive, and among the best `MAX_HITS`."""
    smallest = 10.0**-_SCORE_DECIMALS / 2
    if len(scores) <= MAX_HITS:
        return smallest
    return max(smallest, float(np.partition(scores, -MAX_HITS)[-MAX_HITS]))
