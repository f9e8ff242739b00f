"""Case tables: rows with a prediction, a reference and the verdict that is expected of a reward.

A reward module that can read such rows has a function `read_case(row, folder) -> Case`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewards.base import Reward, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of a case table, ready to be judged."""

    id: str
    reward: Reward
    """The reward, configured as the row asks."""
    sample: Sample
    expected: float
    """The value that the reward must give."""


CaseReader = Callable[[Mapping[str, Any], Path], Case]  # a row's columns depend on the table
"""Row and folder of the table (fixtures lie beside it) to a case."""


def case_reader(reward: type[Reward]) -> CaseReader:
    """The function that reads case rows for a reward class.

    Raises:
        ValueError: its module has no `read_case`.
    """
    found = getattr(sys.modules[reward.__module__], "read_case", None)
    if found is None:
        raise ValueError(
            f"{reward.__module__} has no function read_case(row, folder), so it cannot read case "
            "tables; score a file of predictions instead"
        )
    return found
