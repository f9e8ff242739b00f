"""Opens the shop that a configuration describes; equal configurations share one.

A shop of 2,000 generated products takes well under a second and some ten megabytes to make; it is
read-only, so threads and sessions of a process share it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from rewards.webshop.catalogue import Catalogue, catalogue_from_raw, read_files
from rewards.webshop.config import ShopConfig
from rewards.webshop.generator import generate
from rewards.webshop.nouns import SpacyNouns, heuristic_nouns
from rewards.webshop.shop import Shop


@lru_cache(maxsize=4)
def shop_for(config: ShopConfig) -> Shop:
    """The shop of a configuration; made on the first call, shared by later ones.

    Raises:
        ValueError: The official files or the spaCy model are missing, or a file cannot be read.
    """
    nouns = SpacyNouns() if config.nouns == "spacy" else heuristic_nouns
    return Shop(catalogue_for(config), config, nouns)


def catalogue_for(config: ShopConfig) -> Catalogue:
    """The catalogue of a configuration, shared by shops that differ in other settings only."""
    shared = replace(config, nouns="heuristic", observation_mode="text", max_steps=1)
    return _catalogue(replace(shared, show_attributes=False))


@lru_cache(maxsize=2)
def _catalogue(config: ShopConfig) -> Catalogue:
    if config.source == "files":
        raw = read_files(config.folder, config.num_products or None)
    else:
        raw = generate(config.num_products, config.seed)
    return catalogue_from_raw(raw, goal_kind=config.goal_kind, seed=config.seed)
