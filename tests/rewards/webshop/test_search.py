from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from rewards.webshop.catalogue import catalogue_from_raw
from rewards.webshop.generator import generate
from rewards.webshop.products import Product
from rewards.webshop.search import MAX_HITS, SearchIndex, document, stem, terms
from tests.rewards.webshop.toy_shop import raw_files

ROOT = Path(__file__).resolve().parents[3]
GENERATED = catalogue_from_raw(generate(200, seed=4)).products
PRINT_HITS = """
from rewards.webshop.catalogue import catalogue_from_raw
from rewards.webshop.generator import generate
from rewards.webshop.search import SearchIndex
index = SearchIndex(catalogue_from_raw(generate(200, seed=4)).products)
print([product.asin for product in index.search("green bar stool with metal legs")])
"""


def slow_bm25(products: tuple[Product, ...], text: str) -> list[str]:
    """The formula as Robertson and Zaragoza write it, with Lucene's idf; k1 0.9, b 0.4."""
    documents = [terms(document(product)) for product in products]
    mean_length = sum(map(len, documents)) / len(documents)
    scores = []
    for words in documents:
        counts, score = Counter(words), 0.0
        for term in terms(text):
            df = sum(term in other for other in documents)
            idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
            norm = 0.9 * (1 - 0.4 + 0.4 * len(words) / mean_length)
            score += idf * counts[term] / (counts[term] + norm)
        scores.append(round(score, 4))
    order = sorted(range(len(products)), key=lambda i: (-scores[i], i))
    return [products[i].asin for i in order if scores[i] > 0][:MAX_HITS]


@pytest.mark.parametrize(
    "text",
    ["bar stool", "stools", "gluten free trail mix", "black black", "9 | 10", "x-small dress"],
)
def test_search_ranks_as_a_plain_implementation_of_bm25(text: str) -> None:
    # Two documents whose rounded scores differ by float32 noise may swap; these queries have none.
    found = [product.asin for product in SearchIndex(GENERATED).search(text)]
    assert found == slow_bm25(GENERATED, text)


def test_equal_documents_come_in_catalogue_order_and_hits_end_at_fifty() -> None:
    same = tuple(Product(asin=f"B{i}", name="soap", title="soap") for i in range(120))
    assert SearchIndex(same).search("soap") == same[:MAX_HITS]


@pytest.mark.parametrize("text", ["", " ", "the of and", "zzzz", "[]", "\ud800", "\U0001f600" * 99])
def test_a_search_without_known_terms_finds_nothing(text: str) -> None:
    assert SearchIndex(GENERATED).search(text) == ()


def test_a_search_of_a_hundred_thousand_words_is_answered() -> None:
    assert len(SearchIndex(GENERATED).search("stool " * 100_000)) > 0


def test_the_ranking_does_not_depend_on_the_hash_seed_of_the_process() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PRINT_HITS],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1 and "B" in outputs.pop()


def test_the_document_is_title_description_first_bullet_and_options() -> None:
    lotion = catalogue_from_raw(raw_files()).products[0]
    assert document(lotion) == (
        "acme gentle body lotion a lotion that is cruelty free. paraben free. "
        'scent: lavender, vanilla | oat, and size: 2 fl oz, 52"w'
    )


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("shoes", "shoe"), ("batteries", "battery"), ("glass", "glass"), ("gas", "gas"),
        ("citrus", "citrus"), ("boxes", "boxe"), ("lotion", "lotion"), ("movies", "movy"),
    ],
)  # fmt: skip
def test_only_plural_endings_are_removed(word: str, expected: str) -> None:
    assert stem(word) == expected


def test_terms_keep_decimals_and_drop_stop_words() -> None:
    assert terms("The 7.5 wide shoes, for women's") == ["7.5", "wide", "shoe", "women", "s"]
