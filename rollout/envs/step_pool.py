"""Environment steps in threads, with a wall-clock limit each.

    submit --> pending --> one idle worker: restore, step, snapshot --> finished
                              | over the limit: outcome TIMEOUT; the worker is abandoned,
                              `--> another one takes its place

A worker owns its environment instance, so an instance never changes threads. An instance that failed
is dropped. A thread cannot be killed: an abandoned one goes on until its step ends (daemon threads do
not hold up the end of the program), so an environment with endless steps needs limits of its own too.
The pool is driven by one thread, which calls all methods.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from rollout.envs.base import Environment, Facts, Observation
from rollout.tree import FinishReason

logger = logging.getLogger(__name__)

Job = Callable[[Environment], tuple[Observation | None, object]]
"""Runs on a worker; returns the observation and the snapshot behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """What came of a job."""

    observation: Observation | None = None
    state: object = None
    failure: FinishReason | None = None
    """None, ENVIRONMENT_FAILED or ENVIRONMENT_TIMEOUT."""
    error: str = ""
    """Class and message of what went wrong, at most 200 characters."""

    @property
    def facts(self) -> Facts:
        """What the environment said about the episode."""
        return {} if self.observation is None else self.observation.detail


Deliver = Callable[[StepOutcome], None]


class StepPool:
    """Runs jobs on up to `num_threads` environments; a job never raises, and never lasts longer."""

    def __init__(
        self, make: Callable[[], Environment], *, num_threads: int, timeout_s: float
    ) -> None:
        self._make = make
        self._num_threads = num_threads
        self._timeout_s = timeout_s
        self._pending: deque[tuple[Job, Deliver]] = deque()
        self._idle: list[_Worker] = []
        self._busy: dict[_Worker, tuple[Deliver, float]] = {}
        self._results: queue.SimpleQueue[tuple[_Worker, StepOutcome, float]] = queue.SimpleQueue()

    @property
    def has_work(self) -> bool:
        """True while an outcome has not been handed out."""
        return bool(self._pending or self._busy)

    def submit(self, job: Job, deliver: Deliver) -> None:
        """Run `job` as soon as a worker is free; `take_finished` hands `deliver` back with it."""
        self._pending.append((job, deliver))
        self._dispatch()

    def take_finished(self, *, wait: bool) -> list[tuple[Deliver, StepOutcome]]:
        """Outcomes that are there; with `wait`, blocks until the next result or deadline."""
        finished = self._collect(wait and bool(self._busy)) + self._expire()
        self._dispatch()
        return finished

    def close(self) -> None:
        """Let all workers end; outcomes that are not there yet are lost."""
        for worker in (*self._idle, *self._busy):
            worker.inbox.put(None)
        self._pending.clear()
        self._idle.clear()
        self._busy.clear()

    def _dispatch(self) -> None:
        while self._pending and len(self._busy) < self._num_threads:
            job, deliver = self._pending.popleft()
            worker = self._idle.pop() if self._idle else _Worker(self._make, self._results)
            self._busy[worker] = (deliver, time.monotonic() + self._timeout_s)
            worker.inbox.put(job)

    def _collect(self, wait: bool) -> list[tuple[Deliver, StepOutcome]]:
        finished: list[tuple[Deliver, StepOutcome]] = []
        while True:
            try:
                worker, outcome, seconds = self._results.get(timeout=self._patience_s(wait))
            except queue.Empty:
                return finished
            if worker in self._busy:  # else: abandoned, its result is too late
                deliver, _ = self._busy.pop(worker)
                self._idle.append(worker)
                late = seconds > self._timeout_s
                finished.append((deliver, self._timeout() if late else outcome))
                wait = False

    def _patience_s(self, wait: bool) -> float:
        """Seconds until the next deadline, 0 if nobody waits."""
        if not wait:
            return 0.0
        return max(0.0, min(end for _, end in self._busy.values()) - time.monotonic())

    def _expire(self) -> list[tuple[Deliver, StepOutcome]]:
        now = time.monotonic()
        overdue = [worker for worker, (_, end) in self._busy.items() if end <= now]
        finished: list[tuple[Deliver, StepOutcome]] = []
        for worker in overdue:
            deliver, _ = self._busy.pop(worker)
            worker.inbox.put(None)
            logger.warning(
                "environment step over %.3g s; its thread is left behind", self._timeout_s
            )
            finished.append((deliver, self._timeout()))
        return finished

    def _timeout(self) -> StepOutcome:
        return StepOutcome(
            failure=FinishReason.ENVIRONMENT_TIMEOUT, error=f"over {self._timeout_s:g} s"
        )


class _Worker(threading.Thread):
    """Runs the jobs of its inbox on its own environment until it gets None."""

    def __init__(
        self,
        make: Callable[[], Environment],
        results: queue.SimpleQueue[tuple[_Worker, StepOutcome, float]],
    ) -> None:
        super().__init__(name="environment", daemon=True)
        self.inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._make = make
        self._results = results
        self._environment: Environment | None = None
        self.start()

    def run(self) -> None:
        """Work until told to stop."""
        while (job := self.inbox.get()) is not None:
            started = time.monotonic()
            outcome = self._outcome(job)
            self._results.put((self, outcome, time.monotonic() - started))

    def _outcome(self, job: Job) -> StepOutcome:
        """The boundary to other people's code: all that it raises becomes data here."""
        environment, self._environment = self._environment, None  # stays None after a failure
        try:
            environment = environment or self._make()
            observation, state = job(environment)
            if not isinstance(observation, Observation | None):
                raise TypeError(f"the environment returned {type(observation).__name__}")
        except (Exception, SystemExit) as error:
            text = f"{type(error).__name__}: {error}"[:200]
            logger.debug("environment step failed", exc_info=True)
            return StepOutcome(failure=FinishReason.ENVIRONMENT_FAILED, error=text)
        self._environment = environment
        return StepOutcome(observation=observation, state=state)
