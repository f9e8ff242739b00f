"""Rows of a data set: embedded tasks, local files, hub data sets; nothing is written anywhere.

Local files are read directly (no network, no cache folder); only hub data sets go through
`datasets` and its cache.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

from datasets import load_dataset

from trainers.tasks.base import EMBEDDED, Row, Split, load_task
from trainers.tasks.chain_sums import ChainSumsConfig

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".parquet")


def embedded_rows(name: str, sizes: ChainSumsConfig, part: Split) -> list[Row]:
    """The rows of one split of an embedded task; `sizes` is for chain_sums."""
    settings = (sizes,) if name == "chain_sums" else ()
    return load_task(name, {}, *settings).rows(part)


def is_file(source: str) -> bool:
    """Whether `source` names a local file, there or not, rather than a hub data set.

    Raises:
        ValueError: it is a path, but not of a format that can be read.
    """
    if source.endswith(SUFFIXES):
        return True
    if source.startswith((".", "/", "~")) or Path(source).exists():
        raise ValueError(f"{source}: not a file that can be read; use one of {', '.join(SUFFIXES)}")
    return False


def file_rows(path: Path) -> list[Row]:
    """All rows of a local file, with one JSON object a line or in the Parquet format.

    Raises:
        ValueError: the file is missing, damaged, or holds something else.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file (looked from {Path.cwd()})")
    try:
        return _parquet_rows(path) if path.suffix == ".parquet" else list(_json_rows(path))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); is it complete and UTF-8?") from error


def hub_rows(source: str, name: str | None, split: str) -> list[Row]:
    """All rows of a split of a hub data set.

    Raises:
        ValueError: it is unknown or cannot be reached.
    """
    try:
        return load_dataset(source, name, split=split).to_list()
    except (OSError, ValueError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{source!r} is neither one of {', '.join(EMBEDDED)}, nor a file ({', '.join(SUFFIXES)}), nor can it be "
            f"loaded from the hub: {first}"
        ) from error


def _parquet_rows(path: Path) -> list[Row]:
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path}: not a Parquet file ({error})") from error


def _json_rows(path: Path) -> Iterator[Row]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _json_row(line, f"{path}:{number}")


def _json_row(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error.msg}); expected one object a line") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: {type(row).__name__} instead of an object with columns")
    return row
