"""How much faster is score_batch than math-verify in one process, on mixed answers?

    python -m benches.reward_throughput [--samples 400] [--repetitions 5]

Fixed seed, new samples in every repetition (workers cache parsed expressions). Warm-up: one batch of both sides before timing (imports, worker start). One JSON object on
standard output: counted quantities first (exact), wall-clock second (information only). Ideal value of
the share of answers that never leave the process: the share of rows whose reference is a literal, a
list or tuple of literals, or a word (85 % of the mix), plus the wrong expressions that a veto settles.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

from math_verify import parse, verify

from rewards.base import Sample
from rewards.batch import score_batch
from rewards.math_answer import MathAnswer
from rewards.pool import PoolConfig, WorkerPool

SEED = 20250903


def make_samples(num_samples: int, seed: int) -> list[Sample]:
    """60 % integers, 15 % fractions, 10 % lists and tuples, 15 % expressions; half of each right."""
    rng = random.Random(seed)
    makers = [_integer] * 12 + [_fraction] * 3 + [_list, _tuple] + [_expression] * 3
    return [_sample(*rng.choice(makers)(rng, rng.random() < 0.5)) for _ in range(num_samples)]


def plain_math_verify(samples: list[Sample]) -> list[bool]:
    """The usual baseline: parse both re-boxed sides and compare, time limits switched off."""
    return [
        bool(
            verify(
                parse(rf"\boxed{{{sample.reference['answer']}}}", parsing_timeout=None),
                parse(sample.completion, parsing_timeout=None),
                timeout_seconds=None,
            )
        )
        for sample in samples
    ]


def main() -> None:
    """Runs both sides and prints the JSON report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    batches = [make_samples(arguments.samples, SEED + i) for i in range(arguments.repetitions + 1)]
    with WorkerPool(PoolConfig(num_workers=arguments.workers)) as pool:
        report = compare(batches, pool)
    print(json.dumps(report | environment(arguments.workers), indent=2))


def compare(batches: list[list[Sample]], pool: WorkerPool) -> dict[str, object]:
    """Counts on the first batch, then samples per second of both sides on the others."""
    reward, samples = MathAnswer(), batches[0]
    scores, verified = score_batch(reward, samples, pool), plain_math_verify(samples)
    num_quick = sum(reward.quick_score(sample) is not None for sample in samples)
    ours = _rates(lambda batch: score_batch(reward, batch, pool), batches[1:])
    theirs = _rates(plain_math_verify, batches[1:])
    disagree = sum((s.value == 1.0) != v for s, v in zip(scores, verified, strict=True))
    return {
        "num_samples": len(samples),
        "in_process_frac": num_quick / len(samples),
        "num_disagreements": disagree,
        "score_batch_per_s": _summary(ours),
        "math_verify_per_s": _summary(theirs),
        "ratio": statistics.median(ours) / statistics.median(theirs),
    }


def environment(num_workers: int) -> dict[str, object]:
    """What the numbers depend on."""
    return {
        "seed": SEED,
        "num_workers": num_workers,
        "num_cpus": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "math_verify": version("math-verify"),
        "sympy": version("sympy"),
    }


def _rates(run: Callable[[list[Sample]], object], batches: list[list[Sample]]) -> list[float]:
    rates = []
    for batch in batches:
        start = time.perf_counter()
        run(batch)
        rates.append(len(batch) / (time.perf_counter() - start))
    return rates


def _summary(rates: list[float]) -> dict[str, float]:
    return {"median": statistics.median(rates), "min": min(rates), "max": max(rates)}


def _sample(gold: str, answer: str) -> Sample:
    return Sample(completion=rf"So the answer is $\boxed{{{answer}}}$.", reference={"answer": gold})


def _integer(rng: random.Random, is_right: bool) -> tuple[str, str]:
    value = rng.randrange(10_000)
    return str(value), f"{value + (not is_right):,}"


def _fraction(rng: random.Random, is_right: bool) -> tuple[str, str]:
    top, bottom = rng.randrange(1, 99), rng.randrange(2, 99)
    return rf"\frac{{{top}}}{{{bottom}}}", f"{top + (not is_right)}/{bottom}"


def _list(rng: random.Random, is_right: bool) -> tuple[str, str]:
    a, b = rng.randrange(100), rng.randrange(100)
    return f"{a},{b}", f"{b}, {a + (not is_right)}"


def _tuple(rng: random.Random, is_right: bool) -> tuple[str, str]:
    a, b = rng.randrange(100), rng.randrange(100)
    return f"({a},{b})", f"({a}, {b + (not is_right)})"


def _expression(rng: random.Random, is_right: bool) -> tuple[str, str]:
    a, b = rng.randrange(2, 20), rng.randrange(2, 20)
    return f"(x+{a})(x+{b})", f"x^2+{a + b + (not is_right)}x+{a * b}"


if __name__ == "__main__":
    main()
