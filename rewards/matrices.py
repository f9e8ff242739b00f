r"""Matrices and column vectors in `\begin{...matrix}` notation (policy P12 of docs/rewards.md)."""

from __future__ import annotations

import re

from rewards.sequences import Same

_MATRIX = re.compile(
    r"\\begin\s*\{([a-zA-Z]*matrix|array)\}(?:\s*\{[^{}]*\})?(.*)\\end\s*\{\1\}", re.DOTALL
)


def parse_matrix(text: str) -> list[list[str]] | None:
    """Rows of cells, None when the text is not exactly one matrix."""
    match = _MATRIX.fullmatch(text.strip().strip("()[]|"))
    if match is None:
        return None
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", match.group(2)) if row.strip()]
    return [[cell.strip() for cell in row.split("&")] for row in rows]


def same_matrix(gold: str, pred: str, same: Same) -> bool:
    """Same shape and equal entries; the style of the brackets is free."""
    gold_rows, rows = parse_matrix(gold), parse_matrix(pred)
    if gold_rows is None or rows is None:
        return False
    if [len(row) for row in gold_rows] != [len(row) for row in rows]:
        return False
    return all(
        same(gold_cell, cell)
        for gold_row, row in zip(gold_rows, rows, strict=True)
        for gold_cell, cell in zip(gold_row, row, strict=True)
    )
