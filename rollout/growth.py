"""Growing rollout trees: w responses per prompt as a tree of segments (TreePO, arXiv 2508.17445, alg. 1).

Differences from the released code:
* prompts do not wait for each other: a prompt's next level starts when its own paths have ended;
* every request is keyed by (seed, prompt, lineage of the path), so a prompt's tree depends neither
  on the other prompts of the call nor on their order;
* requests never overshoot the response limit, so nothing is cut off afterwards;
* fallback and the stop tests: see fallback.py and stopping.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from rollout.branching.base import load_branch_policy
from rollout.config import PromptTask, RolloutConfig
from rollout.prompt_growth import Decode, GrowthRules, PathT, PromptGrowth, SegmentEngine
from rollout.stopping import AnswerTest
from rollout.tree import RolloutTree

__all__ = ["PromptTask", "RolloutConfig", "SegmentEngine", "grow_trees"]

ProgressCallback = Callable[[int, int], None]
"""Called with (leaves so far, leaves wanted) after every engine step in which requests ended."""


def grow_trees(
    engine: SegmentEngine[PathT],
    tasks: Sequence[PromptTask],
    config: RolloutConfig,
    *,
    decode: Decode,
    eos_token_ids: Iterable[int],
    seed: int,
    on_progress: ProgressCallback | None = None,
    has_answer: AnswerTest | None = None,
) -> list[RolloutTree]:
    """One finished tree per task, in the order of `tasks`; each has exactly `width` leaves.

    A tree depends on the engine's weights, `seed`, the task and `config`, not on the other tasks
    or on their order (a prompt id that occurs twice gets two different trees).

    Args:
        engine: Inside its session. All paths that are opened here are closed on return, also when
            an exception passes.
        tasks: The prompts.
        config: Shape and law.
        decode: Token ids to text; called once per segment, for the stop tests.
        eos_token_ids: Tokens that end a response; they stay in it.
        seed: Change it to get other trees for the same prompts (for example per optimizer step).
        on_progress: Told about completed leaves.
        has_answer: What a complete answer is; None: a closed box.

    Raises:
        ValueError: A prompt is empty or the branch policy is unknown.
    """
    rules = GrowthRules(
        config=config,
        policy=load_branch_policy(config.branch_policy, config.branching),
        decode=decode,
        eos_token_ids=frozenset(eos_token_ids),
        has_answer=has_answer,
    )
    growths = [
        PromptGrowth(engine, task, rules, origin=(seed, task.prompt_id, occurrence))
        for task, occurrence in zip(tasks, _occurrences(tasks), strict=True)
    ]
    try:
        _run(engine, growths, on_progress, num_wanted=config.width * len(growths))
    finally:
        pass
    return [growth.tree for growth in growths]


def _occurrences(tasks: Sequence[PromptTask]) -> list[int]:
    """How many earlier tasks have the same prompt id."""
    seen: Counter[str] = Counter()
    occurrences = []
    for task in tasks:
        occurrences.append(seen[task.prompt_id])
        seen[task.prompt_id] += 1
    return occurrences


def _run(
    engine: SegmentEngine[PathT],
    growths: Sequence[PromptGrowth[PathT]],
    on_progress: ProgressCallback | None,
    num_wanted: int,
) -> None:
    owners: dict[int, PromptGrowth[PathT]] = {}
    for growth in growths:
        owners.update((id(path), growth) for path in growth.start())
    while engine.has_work:
        ended = engine.step()
        for path, decoded in ended:
            growth = owners.pop(id(path))
            owners.update((id(new), growth) for new in growth.receive(path, decoded))
        if ended and on_progress is not None:
            on_progress(sum(len(growth.tree.leaves) for growth in growths), num_wanted)
    assert all(growth.is_complete for growth in growths), "the engine dropped a request"
