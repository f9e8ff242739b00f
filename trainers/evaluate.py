"""Avg@k, pass@k and maj@k on held-out prompts, with confidence intervals.

Symbols: n prompts, k samples per prompt, c_i correct samples of prompt i. Avg@k = mean of c_i / k;
pass@k = share of prompts with c_i >= 1; maj@k = share of prompts whose most frequent answer (first
seen wins a tie) is correct; Avg@1 is one greedy answer per prompt. Intervals: 95 %, normal
approximation over prompts for means (Avg), Wilson's score interval for shares.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from inference.engine import Engine
from rollout.config import PromptTask, RolloutConfig
from rollout.growth import grow_trees
from rollout.tree import Trajectory

Z95 = 1.959964
Judge = Callable[[PromptTask, Sequence[Trajectory]], Sequence["Judged"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One answer after the verifier."""

    correct: bool
    answer: str
    """The extracted answer, compared as text for the majority vote; empty when there is none."""
    reward: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean with its 95 % interval; all in [0, 1]."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Result of an evaluation."""

    num_prompts: int
    k: int
    avg_at_1: Estimate
    """One greedy answer per prompt."""
    avg_at_k: Estimate
    pass_at_k: Estimate
    maj_at_k: Estimate
    mean_length_tokens: float
    """Mean response length of the k samples."""

    def as_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        return asdict(self)

    def metrics(self) -> dict[str, float]:
        """Metrics under their documented names."""
        return {
            "eval/avg_at_1": self.avg_at_1.value,
            f"eval/avg_at_{self.k}": self.avg_at_k.value,
            f"eval/pass_at_{self.k}": self.pass_at_k.value,
            f"eval/maj_at_{self.k}": self.maj_at_k.value,
            "eval/mean_length": self.mean_length_tokens,
        }

    def lines(self) -> list[str]:
        """One readable line per figure."""
        named = {
            "Avg@1 (greedy)": self.avg_at_1,
            f"Avg@{self.k}": self.avg_at_k,
            f"pass@{self.k}": self.pass_at_k,
            f"maj@{self.k}": self.maj_at_k,
        }
        return [
            f"{name:<15} {e.value:.3f}  [{e.low:.3f}, {e.high:.3f}]" for name, e in named.items()
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptOutcome:
    """All answers to one prompt; what ranks exchange."""

    greedy_correct: bool
    correct: tuple[bool, ...]
    answers: tuple[str, ...]
    num_tokens: int
    """Response tokens of the k samples together."""


def evaluate_prompts(
    engine: Engine,
    tasks: Sequence[PromptTask],
    config: RolloutConfig,
    *,
    k: int,
    judge: Judge,
    decode: Callable[[Sequence[int]], str],
    eos_token_ids: Sequence[int],
    seed: int,
    encode: Callable[[str], Sequence[int]] | None = None,
) -> list[PromptOutcome]:
    """Answer every prompt once greedily and k times at `config.temperature`, flat, and judge.

    The result of a prompt does not depend on the other prompts. `encode` is needed with
    `config.env`.
    """
    greedy = grow_trees(
        engine,
        tasks,
        flat_law(config, width=1, temperature=0.0),
        decode=decode,
        eos_token_ids=eos_token_ids,
        seed=seed,
        encode=encode,
    )
    sampled = grow_trees(
        engine,
        tasks,
        flat_law(config, width=k, temperature=config.temperature),
        decode=decode,
        eos_token_ids=eos_token_ids,
        seed=seed,
        encode=encode,
    )
    return [
        _outcome(task, one.trajectories(), many.trajectories(), judge)
        for task, one, many in zip(tasks, greedy, sampled, strict=True)
    ]


def flat_law(config: RolloutConfig, *, width: int, temperature: float) -> RolloutConfig:
    """The same limits and stop rules, but `width` independent unpruned responses at this temperature."""
    return replace(
        config,
        width=width,
        initial_divergence=width,
        branching=1,
        branch_policy="even",
        temperature=temperature,
    )


def summarise(outcomes: Sequence[PromptOutcome]) -> Evaluation:
    """The figures over all prompts.

    Raises:
        ValueError: there is no prompt.
    """
    if not outcomes:
        raise ValueError("evaluation needs at least one prompt; got 0")
    k = len(outcomes[0].correct)
    majority = [o.correct[o.answers.index(_most_frequent(o.answers))] for o in outcomes]
    return Evaluation(
        num_prompts=len(outcomes),
        k=k,
        avg_at_1=share([o.greedy_correct for o in outcomes]),
        avg_at_k=mean_estimate([sum(o.correct) / k for o in outcomes]),
        pass_at_k=share([any(o.correct) for o in outcomes]),
        maj_at_k=share(majority),
        mean_length_tokens=sum(o.num_tokens for o in outcomes) / (k * len(outcomes)),
    )


def share(values: Sequence[bool]) -> Estimate:
    """A share with Wilson's 95 % score interval; 3 of 10 -> 0.3 [0.108, 0.603]."""
    n, p = len(values), sum(values) / len(values)
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2))
    return Estimate(value=p, low=max(0.0, centre - half), high=min(1.0, centre + half))


def mean_estimate(values: Sequence[float]) -> Estimate:
    """A mean with its normal 95 % interval (sample variance), clamped to [0, 1]."""
    n = len(values)
    mean = sum(values) / n
    variance = sum((v - mean) ** 2 for v in values) / (n - 1) if n > 1 else 0.0
    half = Z95 * math.sqrt(variance / n)
    return Estimate(value=mean, low=max(0.0, mean - half), high=min(1.0, mean + half))


def _outcome(
    task: PromptTask,
    greedy: Sequence[Trajectory],
    sampled: Sequence[Trajectory],
    judge: Judge,
) -> PromptOutcome:
    judged = judge(task, [*greedy, *sampled])
    return PromptOutcome(
        greedy_correct=judged[0].correct,
        correct=tuple(j.correct for j in judged[1:]),
        answers=tuple(j.answer for j in judged[1:]),
        num_tokens=sum(sum(t.loss_mask) for t in sampled),
    )


def _most_frequent(answers: Sequence[str]) -> str:
    return Counter(answers).most_common(1)[0][0]
