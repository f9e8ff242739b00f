"""Rollout trees as tables at wandb, each with its tree as a page of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rollout.tree_sample import TreeSample
from trainers.report.dashboard import TREES_KEY
from trainers.report.run_page import tree_page

COLUMNS = ("prompt", "leaves", "mean_score", "best_score", "sharing_ratio", "tree")


def log_trees(samples: Sequence[TreeSample], *, rollout_step: int, global_step: int) -> None:
    """Log `rollouts/step_N`, a table, and `rollouts/trees`, the pages of its trees.

    Nothing happens when no wandb run is active. Tables have a key per step, because wandb keeps
    only the newest table of a key at hand; pages share one, so that a slider leads through the
    steps. They lie in the run folder; those in a table lie in an artifact outside of it.
    """
    wandb = sys.modules.get("wandb")  # whoever logs has imported it already
    run = getattr(wandb, "run", None)
    if wandb is None or run is None or not samples:
        return
    pages = [wandb.Html(tree_page(sample, rollout_step), inject=False) for sample in samples]
    rows = [[*_figures(sample), page] for sample, page in zip(samples, pages, strict=True)]
    run.log(
        {
            f"rollouts/step_{rollout_step:06d}": wandb.Table(columns=list(COLUMNS), data=rows),
            TREES_KEY: pages,
            "train/global_step": global_step,
        }
    )


def _figures(sample: TreeSample) -> list[Any]:  # cells of a table: text or number
    scores = [score for score in sample.scores if score is not None]
    return [
        sample.texts[0],
        len(sample.tree.leaves),
        sum(scores) / len(scores) if scores else None,
        max(scores, default=None),
        sample.tree.sharing_ratio,
    ]
