"""README.md of a trained policy: what it is, how it was made, what it scored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trainers.evaluate import Evaluation

CARD = "README.md"


def write_model_card(
    folder: Path,
    *,
    about: str,
    base_model: str,
    algorithm: Mapping[str, object],
    steps: int,
    evaluations: Mapping[str, Evaluation],
) -> Path:
    """Write README.md beside the weights.

    Args:
        folder: The policy's folder.
        about: Header of the recipe.
        base_model: Folder or hub id that training started from.
        algorithm: Settings that name the algorithm (clip, advantage, aggregation ...).
        steps: Optimizer steps.
        evaluations: Results by moment (before, after), in order.
    """
    lines = [
        f"# {about}",
        "",
        f"A policy trained with ramify for {steps} optimizer steps, starting from `{base_model}`.",
        "The folder above holds `recipe.yaml`, which repeats the run, and `metrics.jsonl`.",
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in algorithm.items()),
    ]
    for moment, result in evaluations.items():
        lines += ["", f"Held-out {moment} training, {result.num_prompts} prompts:", ""]
        lines += [f"    {line}" for line in result.lines()]
    path = folder / CARD
    path.write_text("\n".join(lines) + "\n")
    return path
