"""What does the sandbox cost against plain sqlite3, and what does the reward cost per completion?

    python -m benches.rewards_sql [--rows 50000] [--repetitions 7] [--workers 2] [--json FILE]

One process, fixed seed, a generated shop database. Warm-up: one round of everything. Two workloads:
*analytic* queries scan and join tables (milliseconds each), *point* queries read a few rows
(microseconds each). Measured per workload, the two sides alternating query by query:

* executor: SqliteDatabase.execute against sqlite3.connect(...).execute(...).fetchall(), same file; the
  second baseline also keeps temporary data in memory (PRAGMA temp_store=2), which the sandbox must do
  to write no files and which makes SQLite's sorter slower, so the second ratio is the guard's own cost;
* reward: score_batch in warm workers against a plain loop in one process that runs reference and
  prediction and compares sorted rows; groups of 8 completions per reference, half of them different.

Counted quantities first (virtual-machine steps, reference runs), wall-clock second. Ideal value of the
executor's ratio: 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rewards.base import Sample
from rewards.batch import score_batch
from rewards.pool import PoolConfig, WorkerPool
from rewards.sql.outcome import Limits
from rewards.sql.sqlite_database import SqliteDatabase
from rewards.sql_result import SqlResult, SqlResultConfig

SEED = 20260301
LIMITS = Limits(max_steps=200_000_000)
GROUP = 8
ANALYTIC = [
    "SELECT city, count(*), avg(price) FROM orders JOIN customers ON customers.id = customer GROUP BY city",
    "SELECT item, sum(price * amount) AS total FROM orders GROUP BY item ORDER BY total DESC LIMIT 20",
    "SELECT strftime('%Y-%m', day) AS month, count(*) FROM orders GROUP BY month ORDER BY month",
    "SELECT name FROM customers WHERE id NOT IN (SELECT customer FROM orders WHERE price > 90) ORDER BY name",
    "SELECT customer, max(price) - min(price) FROM orders GROUP BY customer HAVING count(*) > 25",
    "SELECT a.city, count(*) FROM customers a JOIN customers b ON a.city = b.city AND a.id < b.id GROUP BY a.city",
    "SELECT count(*) FROM orders WHERE lower(note) LIKE '%gift%' AND amount BETWEEN 2 AND 7",
    "SELECT id, rank() OVER (PARTITION BY item ORDER BY price DESC) AS r FROM orders WHERE amount = 3 "
    "ORDER BY r, id LIMIT 50",
]  # fmt: skip
POINT = [
    "SELECT name FROM customers WHERE id = 17", "SELECT count(*) FROM customers",
    "SELECT name, city FROM customers WHERE id < 20 ORDER BY name",
    "SELECT c.name, o.price FROM orders o JOIN customers c ON c.id = o.customer WHERE o.id < 10",
]  # fmt: skip


def make_shop(path: Path, num_orders: int) -> None:
    """Customers and orders with repeated values, dates and texts."""
    rng = random.Random(SEED)
    cities = ["Oslo", "Bergen", "Rome", "Lima", None]
    notes = ["gift", "Gift wrap", "", "call before", None]
    num_customers = max(10, num_orders // 50)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT, city TEXT)")
        connection.execute(
            "CREATE TABLE orders(id INTEGER PRIMARY KEY, customer INTEGER, item INTEGER, price REAL, "
            "amount INTEGER, day TEXT, note TEXT)"
        )
        connection.executemany(
            "INSERT INTO customers VALUES (?,?,?)",
            [(i, f"name {rng.randrange(10**6)}", rng.choice(cities)) for i in range(num_customers)],
        )
        connection.executemany(
            "INSERT INTO orders VALUES (?,?,?,?,?,?,?)",
            [
                (
                    i, rng.randrange(num_customers), rng.randrange(500), rng.randrange(1, 10_000) / 100,
                    rng.randrange(1, 10), f"20{rng.randrange(20, 26)}-{rng.randrange(1, 13):02}-11",
                    rng.choice(notes),
                )
                for i in range(num_orders)
            ],
        )  # fmt: skip
    connection.close()


def compare_executors(path: Path, queries: list[str], repetitions: int) -> dict[str, object]:
    """Seconds per round of the queries on both sides, alternating query by query."""
    guarded = SqliteDatabase.from_file(path, LIMITS)
    plain, in_memory = (sqlite3.connect(f"file:{path}?mode=ro", uri=True) for _ in range(2))
    in_memory.execute("PRAGMA temp_store=2")
    steps = sum(guarded.execute(sql).steps for sql in queries)
    equal = all(list(guarded.execute(sql).rows) == plain.execute(sql).fetchall() for sql in queries)
    rounds = [_round(guarded, plain, in_memory, queries) for _ in range(repetitions)]
    ours, theirs, same_store = ([one[i] for one in rounds] for i in range(3))
    per_query = 1000 / len(queries)
    return {
        "num_queries": len(queries),
        "steps": steps,
        "results_equal": equal,
        "plain_ms_per_query": _summary(theirs, per_query),
        "plain_temp_in_memory_ms_per_query": _summary(same_store, per_query),
        "sandbox_ms_per_query": _summary(ours, per_query),
        "ratio": _summary([a / b for a, b in zip(ours, theirs, strict=True)], 1.0),
        "ratio_temp_in_memory": _summary(
            [a / b for a, b in zip(ours, same_store, strict=True)], 1.0
        ),
    }


def _round(
    guarded: SqliteDatabase,
    plain: sqlite3.Connection,
    in_memory: sqlite3.Connection,
    queries: list[str],
) -> tuple[float, float, float]:
    """Processor seconds of all queries on each side, alternating query by query."""
    totals = [0.0, 0.0, 0.0]
    for sql in queries:
        runs: list[Callable[[], object]] = [
            partial(guarded.execute, sql),
            lambda sql=sql: plain.execute(sql).fetchall(),  # type: ignore[misc]  # bound default
            lambda sql=sql: in_memory.execute(sql).fetchall(),  # type: ignore[misc]  # bound default
        ]
        for i, run in enumerate(runs):
            start = time.process_time()
            run()
            totals[i] += time.process_time() - start
    return totals[0], totals[1], totals[2]


def compare_rewards(
    folder: Path, queries: list[str], repetitions: int, workers: int
) -> dict[str, object]:
    """Seconds per batch: reward in workers, with and without copies, against a plain loop."""
    samples = _samples(queries)
    settings = {"database_folder": str(folder), "max_steps": LIMITS.max_steps, "timeout_s": 60.0}
    report: dict[str, object] = {"num_completions": len(samples), "num_workers": workers}
    theirs = [_seconds(lambda: _plain_rewards(folder, samples)) for _ in range(repetitions + 1)][1:]
    report["plain_ms_per_completion"] = _summary(theirs, 1000 / len(samples))
    for num_perturbed in (0, 2):
        reward = SqlResult(SqlResultConfig(num_perturbed=num_perturbed, **settings))  # type: ignore[arg-type]  # settings
        with WorkerPool(PoolConfig(num_workers=workers)) as pool:
            ours = [
                _seconds(partial(score_batch, reward, samples, pool))
                for _ in range(repetitions + 1)
            ]
        report[f"reward_ms_per_completion_{num_perturbed}_copies"] = _summary(
            ours[1:], 1000 / len(samples)
        )
        report[f"ratio_{num_perturbed}_copies"] = statistics.median(ours[1:]) / statistics.median(
            theirs
        )
    return report


def main() -> None:
    """Runs all comparisons; prints the report or writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the report to this file, too")
    arguments = parser.parse_args()
    report: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shop.sqlite"
        make_shop(path, arguments.rows)
        for name, queries in (("analytic", ANALYTIC), ("point", POINT)):
            report[f"executor_{name}"] = compare_executors(path, queries, arguments.repetitions)
            report[f"reward_{name}"] = compare_rewards(
                Path(folder), queries, arguments.repetitions, arguments.workers
            )
    text = json.dumps(report | _environment(arguments.rows), indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")


def _samples(queries: list[str]) -> list[Sample]:
    """Half of a group repeats the reference, the others differ by a comment or by a wrong limit."""
    return [
        Sample(
            completion=f"<final_sql>{_variant(sql, i)}</final_sql>",
            reference={"db_id": "shop", "sql": sql},
        )
        for sql in queries
        for i in range(GROUP)
    ]


def _variant(sql: str, i: int) -> str:
    return sql if i < GROUP // 2 else f"/* {i} */ SELECT * FROM ({sql})"


def _plain_rewards(folder: Path, samples: list[Sample]) -> list[bool]:
    connection = sqlite3.connect(f"file:{folder / 'shop.sqlite'}?mode=ro", uri=True)
    scores = []
    for sample in samples:
        sql = sample.completion.removeprefix("<final_sql>").removesuffix("</final_sql>")
        gold, predicted = (connection.execute(q).fetchall() for q in (sample.reference["sql"], sql))
        scores.append(sorted(map(repr, gold)) == sorted(map(repr, predicted)))
    connection.close()
    return scores


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _summary(values: list[float], factor: float) -> dict[str, float]:
    scaled = [factor * value for value in values]
    return {"median": statistics.median(scaled), "min": min(scaled), "max": max(scaled)}


def _environment(num_rows: int) -> dict[str, object]:
    return {
        "seed": SEED,
        "num_rows": num_rows,
        "num_cpus": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


if __name__ == "__main__":
    main()
