"""Reading metrics.jsonl, without the libraries that writing it needs."""

from __future__ import annotations

import json
from pathlib import Path

FILE = "metrics.jsonl"


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Rows of a metrics file, oldest first; a line cut off by a kill is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
