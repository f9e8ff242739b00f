"""Case tables of `MathAnswer`: `ramify score --reward math_answer --cases math.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rewards.base import Sample
from rewards.cases import Case
from rewards.math_answer import MathAnswer, MathAnswerConfig


def read_case(row: Mapping[str, Any], folder: Path) -> Case:  # a row of the case table
    """A row of a math case table: id, gold, pred, raw, expected and optional kind and flags."""
    flags = dict(row.get("flags", {}))
    config = MathAnswerConfig(reasoning_end=flags.pop("reasoning_end", None))
    text = str(row["pred"])
    return Case(
        id=str(row["id"]),
        reward=MathAnswer(config),
        sample=Sample(
            completion=text if row.get("raw") else rf"The answer is $\boxed{{{text}}}$.",
            reference={"answer": row["gold"], "kind": row.get("kind"), **flags},
        ),
        expected=float(row["expected"]),
    )
