"""Case tables: rows with a prediction, a reference and the verdict that is expected of a reward.

The tables of a reward in module `x.y` are read by `x.y_cases`, which has `read_case(row, folder) -> Case`.
"""

from __future__ import annotations

import importlib
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
    expected: float | None
    """The value that the reward must give; None where the reference must be refused."""


CaseReader = Callable[[Mapping[str, Any], Path], Case]  # a row's columns depend on the table
"""Row and folder of the table (fixtures lie beside it) to a case."""


def case_reader(reward: type[Reward]) -> CaseReader:
    """The function that reads case rows for a reward class.

    Raises:
        ValueError: there is no such module.
    """
    name = f"{reward.__module__}_cases"
    try:
        found: CaseReader = importlib.import_module(name).read_case
    except ImportError as error:
        raise ValueError(
            f"there is no module {name} with read_case(row, folder), so {reward.__name__} cannot "
            "read case tables; score a file of predictions instead"
        ) from error
    return found
