"""Growing rollout trees: w responses per prompt as a tree of segments (TreePO, arXiv 2508.17445, alg. 1).

Differences from the released code:
* prompts do not wait for each other: a prompt's next level starts when its own paths have ended;
* every request is keyed by (seed, prompt, lineage of the path), so a prompt's tree depends neither
  on the other prompts of the call nor on their order;
* requests never overshoot the response limit, so nothing is cut off afterwards;
* fallback and the stop tests: see fallback.py and stopping.py.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from rollout.agent_growth import AgentGrowth, EnvRules
from rollout.branching.base import load_branch_policy
from rollout.config import PromptTask, RolloutConfig
from rollout.envs.config import EnvConfig
from rollout.envs.load import load_environment
from rollout.envs.step_pool import StepPool
from rollout.envs.turn_text import Encode, ObservationEncoder
from rollout.prompt_growth import Decode, GrowthRules, PathT, PromptGrowth, Running, SegmentEngine
from rollout.stopping import AnswerTest
from rollout.tree import RolloutTree

__all__ = ["PromptTask", "RolloutConfig", "SegmentEngine", "grow_trees"]

logger = logging.getLogger(__name__)

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
    encode: Encode | None = None,
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
        encode: Text to token ids, for observations; needed with `config.env`.
        progress: Share of the run that is done, in [0, 1]; only scheduled branch policies use it.

    Raises:
        ValueError: A prompt is empty, or the branch policy or the environment is unknown or wrongly
            configured.
    """
    entry = config.branching_entry
    rules = GrowthRules(
        config=config,
        policy=load_branch_policy(entry.type, config.branching, entry.settings, progress=progress),
        decode=decode,
        eos_token_ids=frozenset(eos_token_ids),
        has_answer=has_answer,
    )
    env = None if config.env is None else _env_rules(config.env, encode)
    running: Running[PathT] = {}
    growths = [
        _new_growth(
            engine,
            task,
            rules=rules,
            origin=(seed, task.prompt_id, occurrence),
            running=running,
            env=env,
        )
        for task, occurrence in zip(tasks, _occurrences(tasks), strict=True)
    ]
    try:
        for growth in growths:
            growth.start()
        _drain(
            engine,
            growths,
            running=running,
            pool=None if env is None else env.pool,
            on_progress=on_progress,
            num_wanted=config.width * len(growths),
        )
    finally:
        for path, _ in running.values():
            engine.cancel(path)
        for growth in growths:
            growth.close()
        if env is not None:
            env.pool.close()
    assert all(growth.is_complete for growth in growths), "the engine dropped a request"
    trees = [growth.tree for growth in growths]
    _warn_of_errors(trees)
    return trees


def _env_rules(config: EnvConfig, encode: Encode | None) -> EnvRules:
    if encode is None:
        raise ValueError(f"rollout.env.type={config.type!r} needs `encode`, text to token ids")
    source = load_environment(config.type, config.options)
    return EnvRules(
        config=config,
        turns=source.turns,
        encoder=ObservationEncoder(source.turns, encode, config.max_observation_tokens),
        pool=StepPool(source.make, num_threads=config.num_threads, timeout_s=config.step_timeout_s),
    )


def _new_growth(
    engine: SegmentEngine[PathT],
    task: PromptTask,
    *,
    rules: GrowthRules,
    origin: tuple[int | str, ...],
    running: Running[PathT],
    env: EnvRules | None,
) -> PromptGrowth[PathT]:
    if env is None:
        return PromptGrowth(engine, task, rules=rules, origin=origin, running=running)
    return AgentGrowth(engine, task, rules=rules, origin=origin, running=running, env=env)


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
    *,
    running: Running[PathT],
    pool: StepPool | None,
    on_progress: ProgressCallback | None,
    num_wanted: int,
) -> None:
    """Step until no request is left; each ended request or environment step may bring new ones."""
    while engine.has_work or (pool is not None and pool.has_work):
        # take all ended requests out first: if one of the trees raises, the rest can be cancelled
        steps = engine.step() if engine.has_work else []
        ended = [(running.pop(id(path))[1], path, decoded) for path, decoded in steps]
        for growth, path, decoded in ended:
            growth.receive(path, decoded)
        outcomes = [] if pool is None else pool.take_finished(wait=not engine.has_work)
        for deliver, outcome in outcomes:
            deliver(outcome)
        if (ended or outcomes) and on_progress is not None:
            on_progress(sum(len(growth.tree.leaves) for growth in growths), num_wanted)


def _warn_of_errors(trees: Sequence[RolloutTree]) -> None:
    """Say which environment errors ended how many leaves, the three most frequent ones."""
    facts = [facts for tree in trees for facts in tree.facts.values()]
    errors = Counter(str(one["error"]) for one in facts if "error" in one)
    if errors:
        causes = "; ".join(f"{num} x {error}" for error, num in errors.most_common(3))
        logger.warning(
            "environment errors ended %d of %d leaves: %s", errors.total(), len(facts), causes
        )
