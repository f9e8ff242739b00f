"""Threads with limits: order, isolation of failures, time-outs, thread ownership."""

from __future__ import annotations

import threading
import time
from typing import Any, cast

from rollout.envs.base import Environment, Observation
from rollout.envs.step_pool import Deliver, Job, StepOutcome, StepPool
from rollout.tree import FinishReason
from tests.fake_environments import Trouble


def pool(num_threads: int = 2, timeout_s: float = 5.0) -> StepPool:
    return StepPool(cast("Any", Trouble), num_threads=num_threads, timeout_s=timeout_s)


def says(text: str) -> Job:
    def job(environment: Environment) -> tuple[Observation, object]:
        return environment.step(f"Do: {text}"), threading.get_ident()

    return job


def drain(steps: StepPool) -> list[tuple[Deliver, StepOutcome]]:
    finished = []
    while steps.has_work:
        finished += steps.take_finished(wait=True)
    return finished


def test_every_job_gets_its_own_outcome() -> None:
    steps = pool(3)
    results: dict[int, StepOutcome] = {}
    for number in range(20):

        def deliver(outcome: StepOutcome, number: int = number) -> None:
            results[number] = outcome

        steps.submit(says(f"number {number}"), deliver)
    for deliver_one, outcome in drain(steps):
        deliver_one(outcome)
    texts = {n: o.observation.text.partition(":")[2] for n, o in results.items() if o.observation}
    assert texts == {number: f"number {number}" for number in range(20)}
    steps.close()


def test_not_waiting_returns_at_once() -> None:
    steps = pool()
    steps.submit(says("sleep 0.3"), lambda outcome: None)
    started = time.monotonic()
    assert steps.take_finished(wait=False) == []
    assert time.monotonic() - started < 0.2
    assert len(drain(steps)) == 1
    steps.close()


def test_an_instance_stays_in_its_thread_and_is_dropped_after_a_failure() -> None:
    steps = pool(1)
    for text in ("a", "b", "raise", "c"):
        steps.submit(says(text), lambda outcome: None)
    outcomes = [outcome for _, outcome in drain(steps)]
    counts = [o.observation.detail["count"] if o.observation else None for o in outcomes]
    assert counts == [1, 2, None, 1]
    assert len({outcome.state for outcome in outcomes if outcome.observation}) == 1
    assert outcomes[2].failure is FinishReason.ENVIRONMENT_FAILED
    assert outcomes[2].error == "KeyError: 'lost'"
    steps.close()


def test_a_hanging_job_costs_its_limit_and_a_replacement_takes_over() -> None:
    steps = pool(1, timeout_s=0.2)
    started = time.monotonic()
    for text in ("sleep 3", "sleep 3", "quick"):
        steps.submit(says(text), lambda outcome: None)
    outcomes = [outcome for _, outcome in drain(steps)]
    assert [outcome.failure for outcome in outcomes] == [
        FinishReason.ENVIRONMENT_TIMEOUT,
        FinishReason.ENVIRONMENT_TIMEOUT,
        None,
    ]
    assert outcomes[0].error == "over 0.2 s"
    assert time.monotonic() - started < 2.0
    steps.close()


def test_a_result_that_is_late_is_a_timeout_even_if_nobody_looked_in_time() -> None:
    steps = pool(1, timeout_s=0.1)
    steps.submit(says("sleep 0.3"), lambda outcome: None)
    time.sleep(0.6)
    ((_, outcome),) = steps.take_finished(wait=False)
    assert outcome.failure is FinishReason.ENVIRONMENT_TIMEOUT
    steps.close()


def test_a_result_in_time_counts_even_if_somebody_looked_late() -> None:
    steps = pool(1, timeout_s=0.3)
    steps.submit(says("quick"), lambda outcome: None)
    time.sleep(0.6)
    ((_, outcome),) = steps.take_finished(wait=False)
    assert outcome.failure is None
    steps.close()


def test_a_constructor_that_fails_is_data() -> None:
    def broken() -> Environment:
        raise ConnectionError("no server")

    steps = StepPool(broken, num_threads=1, timeout_s=1.0)
    steps.submit(says("x"), lambda outcome: None)
    ((_, outcome),) = drain(steps)
    assert outcome.error == "ConnectionError: no server"
    steps.close()


def test_closing_ends_the_threads() -> None:
    before = set(threading.enumerate())
    steps = pool(4)
    for _ in range(8):
        steps.submit(says("sleep 0.01"), lambda outcome: None)
    drain(steps)
    workers = set(threading.enumerate()) - before
    assert 1 <= len(workers) <= 4
    steps.close()
    for worker in workers:
        worker.join(timeout=5)
        assert not worker.is_alive()
