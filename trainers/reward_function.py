"""One reward of a recipe as TRL wants it, and as the evaluation wants it.

TRL calls with keyword arguments only and takes one float or None per row; None ("the reference is
unusable") becomes NaN, advantage 0. Verifiers run in killable processes (rewards/pool.py), so a
hanging one cannot stall the step beyond its limit. Rates of failures are metrics, and a run stops
when they pass the limit (rewards/combine.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rewards.base import Reward, Sample, Score, Verdict
from rewards.batch import score_batch
from rewards.combine import FailureMonitor, means, metric_sums
from rollout.config import PromptTask
from rollout.tree import FinishReason, Trajectory
from trainers.evaluate import Judged
from trainers.rollout_phase import LeafRow

LIMIT_REASONS = (
    FinishReason.MAX_TOKENS,
    FinishReason.MAX_SEGMENTS,
    FinishReason.MAX_TURNS,
    FinishReason.PRUNED,
)


class RewardFunction:
    """Callable in TRL's signature around one `Reward`."""

    def __init__(self, reward: Reward) -> None:
        self.reward = reward
        self.__name__ = reward.name
        """TRL names its metrics after it."""
        self.monitor = FailureMonitor()

    def __call__(
        self,
        *,
        prompts: Sequence[Any],  # texts or message lists
        completions: Sequence[Any],  # texts or message lists
        completion_ids: Sequence[Sequence[int]],
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,  # the data set's columns, one list per column, and TRL's extras
    ) -> list[float | None]:
        """Scores of the rows, in order.

        Raises:
            RewardFailureError: too many verifier failures in a row of batches.
        """
        rows = _rows(columns, len(prompts))
        samples = [
            Sample(
                completion=plain_text(completion),
                prompt=plain_text(prompt),
                reference=row,
                num_tokens=len(ids),
                truncated=row.get("finish") in LIMIT_REASONS,
            )
            for prompt, completion, ids, row in zip(
                prompts, completions, completion_ids, rows, strict=True
            )
        ]
        return [score.value for score in self._score_and_log(samples, log_metric)]

    def judge_leaves(
        self,
        leaves: Sequence[LeafRow],
        decode: Callable[[Sequence[int]], str],
        log_metric: Callable[[str, float], None],
    ) -> list[float]:
        """Scores of leaves outside TRL's reward phase, NaN where unscorable; nothing for no leaves.

        Raises:
            RewardFailureError: too many verifier failures in a row of batches.
        """
        if not leaves:
            return []
        samples = [_sample(leaf.tree.example, leaf.trajectory, decode) for leaf in leaves]
        scores = self._score_and_log(samples, log_metric)
        return [math.nan if score.value is None else score.value for score in scores]

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """Judge samples in the worker pool and watch the failure rate."""
        scores = score_batch(self.reward, samples)
        self.monitor.observe(self.reward.name, scores)
        return scores

    def _score_and_log(
        self, samples: Sequence[Sample], log_metric: Callable[[str, float], None] | None
    ) -> list[Score]:
        scores = self.score(samples)
        if log_metric is not None:
            for name, value in means(metric_sums({self.reward.name: scores})).items():
                log_metric(name, value)
        return scores


def judge_with(
    reward: Reward, decode: Callable[[Sequence[int]], str]
) -> Callable[[PromptTask, Sequence[Trajectory]], list[Judged]]:
    """The judge that an evaluation needs: the reward's verdict decides what is correct."""

    def judge(task: PromptTask, trajectories: Sequence[Trajectory]) -> list[Judged]:
        samples = [_sample(task.example, trajectory, decode) for trajectory in trajectories]
        return [
            Judged(
                correct=score.verdict is Verdict.CORRECT,
                answer=score.detail,
                reward=0.0 if score.value is None else score.value,
            )
            for score in score_batch(reward, samples)
        ]

    return judge


def plain_text(value: Any) -> str:  # a text or a message list
    """Text of a completion or a prompt; the contents of a conversation are joined by newlines."""
    if isinstance(value, str):
        return value
    return "\n".join(str(message["content"]) for message in value)


def _rows(columns: Mapping[str, Any], num_rows: int) -> list[dict[str, Any]]:
    """Row dictionaries of the columns that have one value per row."""
    per_row = {
        name: values
        for name, values in columns.items()
        if isinstance(values, list) and len(values) == num_rows
    }
    return [{name: values[i] for name, values in per_row.items()} for i in range(num_rows)]


def _sample(
    example: Mapping[str, Any],  # a row of the user's columns
    trajectory: Trajectory,
    decode: Callable[[Sequence[int]], str],
) -> Sample:
    response = trajectory.token_ids[trajectory.bounds[0][1] :]
    extras = {"episode": trajectory.facts, "finish": str(trajectory.finish)}
    return Sample(
        completion=decode(response),
        prompt=plain_text(example.get("prompt", "")),
        reference={**example, **extras} if trajectory.facts else example,
        num_tokens=len(response),
        truncated=trajectory.finish in LIMIT_REASONS,
    )
