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
from rollout.prompt_growth import Decode, GrowthRules, PathT, PromptGrowth, Running, SegmentEngine
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
    progress: float = 0.0,
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
        progress: Share of the run that is done, in [0, 1]; only scheduled branch policies use it.

    Raises:
        ValueError: A prompt is empty, or the branch policy is unknown or refuses its settings.
    """
    entry = config.branching_entry
    rules = GrowthRules(
        config=config,
        policy=load_branch_policy(entry.type, config.branching, entry.settings, progress=progress),
        decode=decode,
        eos_token_ids=frozenset(eos_token_ids),
        has_answer=has_answer,
    )
    running: Running[PathT] = {}
    growths = [
        PromptGrowth(
            engine,
            task,
            rules=rules,
            origin=(seed, task.prompt_id, occurrence),
            running=running,
        )
        for task, occurrence in zip(tasks, _occurrences(tasks), strict=True)
    ]
    try:
        for growth in growths:
            growth.start()
        _drain(engine, growths, running, on_progress, config.width * len(growths))
    finally:
        for path, _ in running.values():
            engine.cancel(path)
        for growth in growths:
            growth.close()
    assert all(growth.is_complete for growth in growths), "the engine dropped a request"
    return [growth.tree for growth in growths]


def _occurrences(tasks: Sequence[PromptTask]) -> list[int]:
    """How many earlier tasks have the same prompt id."""
    seen: Counter[str] = Counter()
    occurrences = []
    for task in tasks:
        occurrences.append(seen[task.prompt_id])
        seen[task.prompt_id] += 1
    return occurrences


def _drain(
    engine: SegmentEngine[PathT],
    growths: Sequence[PromptGrowth[PathT]],
    running: Running[PathT],
    on_progress: ProgressCallback | None,
    num_wanted: int,
) -> None:
    """Step until no request is left; each ended request may bring new ones."""
    while engine.has_work:
        # take all ended requests out first: if one of the trees raises, the rest can be cancelled
        ended = [(running.pop(id(path))[1], path, decoded) for path, decoded in engine.step()]
        for growth, path, decoded in ended:
            growth.receive(path, decoded)
        if ended and on_progress is not None:
            on_progress(sum(len(growth.tree.leaves) for growth in growths), num_wanted)
