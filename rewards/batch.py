"""Scores a batch: cheap judgements here, everything that may hang in the worker pool.

A reward may offer more than `name` and `score` (all optional, see docs/rewards.md):

* `quick_score(sample) -> Score | None`: a judgement that is known to be fast, made in this process;
  None sends the sample to a worker;
* `in_process = True`: never use workers (the reward needs what this process holds, such as a model);
  then nothing can stop a `score` that hangs;
* `timeout_s`, `failure_value`, `dedup_key(sample)`, `warm_up()`: see `WorkerPool.score`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rewards.base import Reward, Sample, Score, Verdict
from rewards.pool import WorkerPool, shared_pool


def score_batch(
    reward: Reward, samples: Sequence[Sample], pool: WorkerPool | None = None
) -> list[Score]:
    """Scores every sample, in order; never raises because of what a model wrote.

    Args:
        reward: The reward; unless it is `in_process`, it must be picklable.
        samples: Completions to judge.
        pool: Where to judge; None uses the shared pool of this process.

    Raises:
        ValueError: The reward cannot be sent to a worker.
        RestartStormError: Too many workers died.
    """
    if getattr(reward, "in_process", False):
        return [_guarded(reward, reward.score, sample) or _nothing(reward) for sample in samples]
    quick = getattr(reward, "quick_score", None)
    scores = [_guarded(reward, quick, sample) if quick else None for sample in samples]
    slow = [i for i, score in enumerate(scores) if score is None]
    if slow:
        judged = (pool or shared_pool()).score(reward, [samples[i] for i in slow])
        for i, score in zip(slow, judged, strict=True):
            scores[i] = score
    return [score for score in scores if score is not None]


def _guarded(
    reward: Reward, judge: Callable[[Sample], Score | None], sample: Sample
) -> Score | None:
    try:
        return judge(sample)
    except Exception as error:  # boundary: a verifier failure is data
        return _failed(reward, f"{type(error).__name__}: {error}"[:300])


def _nothing(reward: Reward) -> Score:
    return _failed(reward, "TypeError: score returned None")


def _failed(reward: Reward, detail: str) -> Score:
    value = getattr(reward, "failure_value", 0.0)
    return Score(value=value, verdict=Verdict.CRASHED, detail=detail)
