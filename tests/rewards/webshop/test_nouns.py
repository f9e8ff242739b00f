from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from rewards.webshop.nouns import SpacyNouns, heuristic_nouns


@pytest.mark.parametrize(
    ("name", "nouns"),
    [
        ("Acme Gentle Body Lotion, 16 fl oz", ("acme", "body", "lotion")),
        ("Anti-Slip Shoes for Women, 2-Pack (X-Large)", ("slip", "shoes", "women", "pack")),
        ("USB3 Cable 10ft - 3.5mm Cable", ("cable", "cable")),
        ("the 12 of A", ()),
        ("", ()),
    ],
)
def test_nouns_are_words_without_function_words_units_and_adjectives(
    name: str, nouns: tuple[str, ...]
) -> None:
    assert heuristic_nouns(name) == nouns


def test_spacy_tags_decide_when_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    def tag(name: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(text=word, pos_=kind) for word, kind in
                zip(name.split(), ("PROPN", "ADJ", "NOUN"), strict=True)]  # fmt: skip

    monkeypatch.setitem(sys.modules, "spacy", SimpleNamespace(load=lambda model: tag))
    assert SpacyNouns()("Acme Soft Soap") == ("acme", "soap")


def test_missing_spacy_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ValueError, match="pip install spacy"):
        SpacyNouns()
