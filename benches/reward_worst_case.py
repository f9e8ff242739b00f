"""Do 10,000 answers with hanging and hostile ones among them all come back, and how long does it take?

    python -m benches.reward_worst_case [--samples 10000] [--hanging 20] [--workers 2]

Fixed seed. Most samples are the mix of benches/reward_throughput.py; 1 % are the resource attacks of the
math case table; `--hanging` samples loop for ever inside the verifier (each a different text, so that
none is answered from memory) and cost one kill each. Counted quantities first: answers returned, verdicts,
wrong verdicts among the ordinary samples. Ideal wall-clock: ordinary throughput of benches/reward_throughput
plus hanging * timeout / workers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import time
from collections import Counter
from pathlib import Path

from benches.hanging_answer import HANG, TIMEOUT_S, HangingAnswer
from benches.reward_throughput import make_samples
from rewards.base import Sample, Verdict
from rewards.batch import score_batch
from rewards.pool import PoolConfig, WorkerPool

SEED = 7
TABLE = Path(__file__).parents[1] / "tests" / "data" / "verifier_cases" / "math.jsonl"


def main() -> None:
    """Judge everything in one batch and print the JSON report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--hanging", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    attacks = [json.loads(line) for line in TABLE.read_text().splitlines() if '"dos"' in line]
    hostile = [_attack(attacks[i % len(attacks)]) for i in range(given.samples // 100)]
    hanging = [
        Sample(completion=f"{HANG} {i}", reference={"answer": "1"}) for i in range(given.hanging)
    ]
    ordinary = make_samples(given.samples - len(hostile) - len(hanging), SEED)
    samples = [*ordinary, *hostile, *hanging]
    random.Random(SEED).shuffle(samples)
    with WorkerPool(PoolConfig(num_workers=given.workers)) as pool:
        started = time.perf_counter()
        scores = score_batch(HangingAnswer(), samples, pool)
        seconds = time.perf_counter() - started
    pairs = list(zip(samples, scores, strict=True))
    report = {
        "returned": len(scores),
        "verdicts": dict(Counter(str(score.verdict) for score in scores)),
        "hanging_that_timed_out": sum(
            s.verdict is Verdict.TIMEOUT for x, s in pairs if HANG in x.completion
        ),
        "ordinary_that_failed": sum(
            s.verdict in (Verdict.TIMEOUT, Verdict.CRASHED)
            for x, s in pairs
            if HANG not in x.completion
        ),
        "seconds": round(seconds, 2),
        "samples_per_second": round(len(samples) / seconds, 1),
        "seconds_of_hanging": round(given.hanging * TIMEOUT_S / given.workers, 2),
        "workers": given.workers,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
    }
    print(json.dumps(report, indent=2))


def _attack(row: dict[str, str]) -> Sample:
    text = row["pred"] if row["raw"] else rf"\boxed{{{row['pred']}}}"
    return Sample(completion=text, reference={"answer": row["gold"]})


if __name__ == "__main__":
    main()
