"""Run folders for tests of the pages: small, written by hand, with texts that try to be HTML."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rollout.dump import write_jsonl
from rollout.tree import FinishReason, RolloutTree, TokenDraws
from rollout.tree_sample import annotate
from trainers.recipe import write_recipe

EVIL = "<script>window.hacked=1</script><img src=x onerror=window.hacked=2>&\"'"
EVIL_TOKEN = 0x110000
LEAF = f"{EVIL} and so on"


def decode(token_ids: Sequence[int]) -> str:
    """Tokens are characters, and one is all of `EVIL`."""
    return "".join(EVIL if token == EVIL_TOKEN else chr(token) for token in token_ids)


def encode(text: str) -> list[int]:
    """The tokens of a text."""
    before, evil, after = text.partition(EVIL)
    return [*map(ord, before), *([EVIL_TOKEN] if evil else []), *map(ord, after)]


def small_tree(texts: Sequence[str] = ("4", LEAF)) -> RolloutTree:
    """A prompt, one segment below it, and below that a leaf per text."""
    tree = RolloutTree(prompt_id=f"q/{EVIL}", example={"answer": EVIL})
    tree.add_segment(parent=None, token_ids=encode(f"2+2?{EVIL}"), policy_version=0)
    finish: list[FinishReason | None] = [None, *[FinishReason.FINISHED] * len(texts)]
    for text, reason in zip(["so ", *texts], finish, strict=True):
        token_ids = encode(text)
        draws = TokenDraws(
            logprobs=tuple(-0.25 * i for i in range(len(token_ids))),
            behaviour_logprobs=(0.0,) * len(token_ids),
            entropies=tuple(0.5 * i for i in range(len(token_ids))),
        )
        tree.add_segment(
            parent=0 if reason is None else 1,
            token_ids=token_ids,
            policy_version=3,
            draws=draws,
            finish=reason,
        )
    return tree


def write_rollouts(folder: Path, step: int, scores: Sequence[float | None] = (1.0, 0.0)) -> Path:
    """rollouts/step_N.jsonl with one tree."""
    path = folder / "rollouts" / f"step_{step:06d}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    sample = annotate(small_tree(), decode, scores=scores, advantages=[0.75, -0.75])
    with path.open("w") as file:
        write_jsonl([sample], file)
    return path


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def write_run(folder: Path, *, seed: int = 0, steps: int = 8, is_finished: bool = True) -> Path:
    """A run of `steps` optimizer steps, a rollout batch every two of them."""
    folder.mkdir(parents=True)
    settings = {
        "kind": "train",
        "model": {"path": "some/model"},
        "trainer": {"clip": "dac", "seed": seed, "max_steps": 8, "steps_per_generation": 2},
        "logging": {"output_dir": str(folder)},
    }
    write_recipe(settings, f"a run {EVIL}", folder / "recipe.yaml")
    rows: list[dict[str, float]] = [{"step": 0, "eval/avg_at_1": 0.25, "eval/pass_at_4": 0.6}]
    for step in range(1, steps + 1):
        row = {"step": step, "loss": 0.1 * step, "step_time": 2.0, "clip/tcr": 0.001 * step}
        row |= {"clip/high_frac/q_below_0.01": 0.5, "clip/high_frac/q_0.1_0.64": 0.25}
        if step % 2:
            row |= {"reward": 0.1 * step, "rollout/sampled_tokens": 100, "time/rollout_s": 1.5}
            row |= {"rollout/finish_eos_frac": 0.25, "rollout/finish_finished_frac": 0.75}
        rows.append(row)
    newest = {"eval/avg_at_1": 0.5, "eval/avg_at_4": 0.4, "eval/pass_at_4": 0.7}
    rows.append({"step": steps, **newest, "odd/key": 3.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = ("avg_at_1", "avg_at_k", "pass_at_k", "maj_at_k")
    before: dict[str, object] = {"num_prompts": 16, "k": 4, "mean_length_tokens": 9.0}
    before |= {name: interval(0.25) for name in names}
    after = before | {name: interval(0.75) for name in names}
    evaluations = {"before": before} | ({"after": after} if is_finished else {})
    (folder / "evaluation.json").write_text(json.dumps(evaluations))
    write_rollouts(folder, 0)
    if is_finished:
        (folder / "final").mkdir()
    return folder
