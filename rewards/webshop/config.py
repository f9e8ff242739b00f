"""Settings of the shop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rewards.webshop.goals import GOAL_KINDS, GoalKind

ObservationMode = Literal["text", "text_rich"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopConfig:
    """Which catalogue, and how sessions over it behave."""

    source: Literal["generated", "files"] = "generated"
    """generated: invented products, nothing to download; files: the official files in `folder`."""
    folder: str = ""
    """Folder of the official files, for source: files."""
    num_products: int = 2000
    """Size of a generated catalogue; with files, entries to read (0 for all)."""
    seed: int = 0
    """Decides generated products, prices of price ranges, and price bounds."""
    goal_kind: GoalKind = "human"
    """human: one goal per instruction; synthetic: one per combination of option values."""
    nouns: Literal["heuristic", "spacy"] = "heuristic"
    """How nouns of names are found; spacy as in the original, needs its model en_core_web_sm."""
    observation_mode: ObservationMode = "text"
    """text: visible texts joined by [SEP]; text_rich: with marked buttons and choices."""
    max_steps: int = 15
    """Actions per episode; the last one ends it."""
    show_attributes: bool = False
    """Item pages link to a page of attributes; that makes matching them easy."""

    def __post_init__(self) -> None:
        if self.source not in ("generated", "files"):
            raise ValueError(f"source={self.source!r} is unknown; use generated or files")
        if (self.source == "files") != bool(self.folder):
            raise ValueError(
                f"source={self.source!r} with folder={self.folder!r}; give a folder exactly for "
                "source: files"
            )
        if self.goal_kind not in GOAL_KINDS:
            raise ValueError(
                f"goal_kind={self.goal_kind!r} is unknown; use one of {', '.join(GOAL_KINDS)}"
            )
        if self.nouns not in ("heuristic", "spacy"):
            raise ValueError(f"nouns={self.nouns!r} is unknown; use heuristic or spacy")
        if self.observation_mode not in ("text", "text_rich"):
            raise ValueError(
                f"observation_mode={self.observation_mode!r} is unknown; use text or text_rich"
            )
        smallest = 0 if self.source == "files" else 1
        if self.num_products < smallest or self.max_steps < 1:
            raise ValueError(
                f"num_products={self.num_products} must be at least {smallest} for source="
                f"{self.source!r}, and max_steps={self.max_steps} at least 1"
            )
