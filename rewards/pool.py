"""Worker pool whose workers can always be killed.

A thread cannot be killed, an alarm does not interrupt C code, and an executor of the standard library
cannot cancel a running task; so every sample that may hang is judged in a separate interpreter, one
at a time, and the whole process group gets SIGKILL when its wall-clock budget is over.

    score(reward, samples)
      |  equal samples once, known killers from memory
      v
    thread per worker:  take worker -> ask(sample, timeout) -> Score
                          timeout: kill, TIMEOUT     death: kill, CRASHED     then a new worker

Usable from any thread and inside an event loop's executor; no signal handlers are installed.
"""

from __future__ import annotations

import atexit
import base64
import hashlib
import logging
import math
import os
import queue
import shutil
import tempfile
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from rewards.base import Reward, Sample, Score, Verdict
from rewards.channel import ChannelTimeout
from rewards.wire import NotAScore, dedup_key, pickled_reward, plain_sample, score_from_reply
from rewards.worker_process import WorkerDied, WorkerProcess

logger = logging.getLogger(__name__)

_MAX_REMEMBERED_KILLS = 4096
_LATE = "batch_deadline"


class RestartStormError(RuntimeError):
    """Workers die faster than the configured limit: the machine or the reward is broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """Settings of `WorkerPool`."""

    num_workers: int = 4
    """Worker processes, started when first needed."""
    item_timeout_s: float = 5.0
    """Wall-clock seconds per sample, unless the reward has its own `timeout_s`."""
    batch_timeout_s: float = 600.0
    """Wall-clock seconds per call; samples not judged by then are TIMEOUT."""
    start_timeout_s: float = 120.0
    """Seconds for starting an interpreter and for importing a reward."""
    memory_bytes: int = 2 * 1024**3
    """Address-space limit of a worker."""
    max_restarts: int = 256
    """More worker deaths than this within `restart_window_s` stop the run."""
    restart_window_s: float = 60.0
    """Length of the window for `max_restarts`, in seconds."""

    def __post_init__(self) -> None:
        for name in ("item_timeout_s", "batch_timeout_s", "start_timeout_s", "restart_window_s"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name}={value} must be a positive, finite number of seconds")
        if self.num_workers < 1 or self.max_restarts < 1:
            raise ValueError(
                f"num_workers={self.num_workers} and max_restarts={self.max_restarts} must be at least 1"
            )
        if self.memory_bytes < 256 * 1024**2:
            raise ValueError(
                f"memory_bytes={self.memory_bytes} is too little for an interpreter with sympy; "
                "use at least 268435456 (256 MiB)"
            )


@dataclass(slots=True, kw_only=True)
class _Job:
    """One call of `WorkerPool.score`: work that threads take, scores that they leave."""

    key: str
    reward: bytes
    name: str
    timeout_s: float
    failure_value: float
    deadline: float
    todo: deque[tuple[str, Sample]]
    scores: dict[str, Score] = field(default_factory=dict)

    def take(self) -> tuple[str, Sample] | None:
        try:
            return self.todo.popleft()
        except IndexError:  # another thread took the last one
            return None

    def failed(self, verdict: Verdict, detail: str, seconds: float = 0.0) -> Score:
        return Score(value=self.failure_value, verdict=verdict, detail=detail, seconds=seconds)


class WorkerPool:
    """Judges samples in killable processes; see the module docstring.

    Args:
        config: Limits and sizes.

    Example:
        `with WorkerPool(PoolConfig(num_workers=2)) as pool: scores = pool.score(reward, samples)`
    """

    def __init__(self, config: PoolConfig | None = None) -> None:
        self.config = config or PoolConfig()
        self.num_restarts = 0
        self.num_remembered = 0
        self._directory = ""
        self._alive: set[WorkerProcess] = set()
        self._reset()
        _POOLS.add(self)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def score(self, reward: Reward, samples: Sequence[Sample]) -> list[Score]:
        """Scores in the order of the samples; equal samples are judged once.

        Args:
            reward: Any picklable reward of an importable module. Optional attributes: `timeout_s`,
                `failure_value` (value for TIMEOUT and CRASHED, default 0), `dedup_key(sample)`.
            samples: What to judge.

        Raises:
            ValueError: The reward cannot be pickled, or not be loaded in a worker.
            RestartStormError: Too many workers died.
        """
        keys = [dedup_key(reward, sample) for sample in samples]
        job = self._job(reward, OrderedDict(zip(keys, samples, strict=True)))
        self._run(job)
        num_late = sum(score.detail == _LATE for score in job.scores.values())
        if num_late:
            logger.warning(
                "reward %s: %d of %d samples were not judged before batch_timeout_s=%g",
                job.name, num_late, len(job.scores), self.config.batch_timeout_s,
            )  # fmt: skip
        return [job.scores[key] for key in keys]

    def close(self) -> None:
        """Kills the workers; the pool may be used again afterwards."""
        with self._lock:
            alive, directory = list(self._alive), self._directory
            self._alive.clear()
            self._directory = ""
        for worker in alive:
            worker.kill()
        if directory:
            shutil.rmtree(directory, ignore_errors=True)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._slots: queue.LifoQueue[WorkerProcess | None] = queue.LifoQueue()
        for _ in range(self.config.num_workers):
            self._slots.put(None)
        self._alive.clear()
        self._directory = ""
        self._deaths: deque[float] = deque()
        self._killers: OrderedDict[tuple[str, str], Score] = OrderedDict()

    def _forget_after_fork(self) -> None:
        """In a forked child: the workers belong to the parent; closing our pipe ends lets them die."""
        for worker in self._alive:
            worker.abandon()
        self._reset()

    def _job(self, reward: Reward, samples: OrderedDict[str, Sample]) -> _Job:
        pickled = pickled_reward(reward)
        job = _Job(
            key=hashlib.sha256(pickled).hexdigest(),
            reward=pickled,
            name=reward.name,
            timeout_s=getattr(reward, "timeout_s", self.config.item_timeout_s),
            failure_value=getattr(reward, "failure_value", 0.0),
            deadline=time.monotonic() + self.config.batch_timeout_s,
            todo=deque(),
        )
        for key, sample in samples.items():
            remembered = self._killers.get((job.key, key))
            if remembered is None:
                job.todo.append((key, sample))
            else:
                job.scores[key] = remembered
                self.num_remembered += 1
        return job

    def _run(self, job: _Job) -> None:
        num_threads = min(self.config.num_workers, len(job.todo))
        if not num_threads:
            return
        with ThreadPoolExecutor(num_threads, thread_name_prefix="reward") as threads:
            try:
                for done in [threads.submit(self._work, job) for _ in range(num_threads)]:
                    done.result()
            except BaseException:
                job.todo.clear()  # Ctrl-C must not wait for the whole batch
                raise

    def _work(self, job: _Job) -> None:
        """Body of a thread: judges samples until none is left or an error stops the job."""
        while (work := job.take()) is not None:
            try:
                job.scores[work[0]] = self._judge(job, *work)
            except BaseException:
                job.todo.clear()
                raise

    def _judge(self, job: _Job, key: str, sample: Sample) -> Score:
        left_s = job.deadline - time.monotonic()
        try:
            worker = self._slots.get(timeout=max(0.001, left_s))
        except queue.Empty:
            return job.failed(Verdict.TIMEOUT, _LATE)
        try:
            left_s = job.deadline - time.monotonic()
            if left_s <= 0:
                return job.failed(Verdict.TIMEOUT, _LATE)
            worker = self._ready(worker, job)
            score, is_killed = _ask(worker, job, sample, min(job.timeout_s, left_s))
            if is_killed:
                self._bury(worker)
                if left_s >= job.timeout_s:
                    self._remember(job, key, score)
            return score
        finally:
            self._slots.put(worker)

    def _ready(self, worker: WorkerProcess | None, job: _Job) -> WorkerProcess:
        """A living worker that has loaded the reward of the job."""
        if worker is None or not worker.is_alive:
            worker = self._start()
        if job.key not in worker.loaded:
            self._load(worker, job)
        return worker

    def _start(self) -> WorkerProcess:
        with self._lock:
            self._directory = self._directory or tempfile.mkdtemp(prefix="rewards-")
            directory = self._directory
        worker = WorkerProcess(self.config.memory_bytes, directory, self.config.start_timeout_s)
        with self._lock:
            self._alive.add(worker)
        return worker

    def _load(self, worker: WorkerProcess, job: _Job) -> None:
        reward = base64.b64encode(job.reward).decode("ascii")
        request = {"op": "load", "key": job.key, "reward": reward}
        try:
            problem = worker.ask(request, self.config.start_timeout_s).get("error")
        except (ChannelTimeout, WorkerDied) as error:
            problem = str(error)
        if problem:
            self._discard(worker)
            raise ValueError(
                f"reward {job.name!r} cannot be loaded in a worker process: {problem}; it must be a "
                "class of an importable module whose import works without the training script"
            )
        worker.loaded.add(job.key)

    def _bury(self, worker: WorkerProcess) -> None:
        """Kills the worker and counts its death; the slot stays empty until the next sample."""
        self._discard(worker)
        now = time.monotonic()
        with self._lock:
            self.num_restarts += 1
            self._deaths.append(now)
            while self._deaths[0] < now - self.config.restart_window_s:
                self._deaths.popleft()
            num_deaths = len(self._deaths)
        if num_deaths > self.config.max_restarts:
            raise RestartStormError(
                f"{num_deaths} reward workers died within {self.config.restart_window_s} s "
                f"(max_restarts={self.config.max_restarts}); look at reward/crashed_frac and "
                "reward/timeout_frac, then raise the memory or time limit or fix the reward"
            )

    def _discard(self, worker: WorkerProcess) -> None:
        with self._lock:
            self._alive.discard(worker)
        worker.kill()

    def _remember(self, job: _Job, key: str, score: Score) -> None:
        with self._lock:
            self._killers[(job.key, key)] = score
            if len(self._killers) > _MAX_REMEMBERED_KILLS:
                self._killers.popitem(last=False)


_POOLS: weakref.WeakSet[WorkerPool] = weakref.WeakSet()  # live pools, for exit and fork
_shared: WorkerPool | None = None  # one pool per process, made on first use
_shared_lock = threading.Lock()


def shared_pool() -> WorkerPool:
    """The pool of this process with default settings, made on first use."""
    global _shared
    with _shared_lock:
        _shared = _shared or WorkerPool()
        return _shared


def _ask(worker: WorkerProcess, job: _Job, sample: Sample, timeout_s: float) -> tuple[Score, bool]:
    """The score, and whether the worker must be killed."""
    request = {
        "op": "score",
        "key": job.key,
        "sample": plain_sample(sample),
        "timeout_s": timeout_s,
    }
    start = time.monotonic()
    try:
        reply = worker.ask(request, timeout_s)
        seconds = time.monotonic() - start
        return score_from_reply(reply, job.failure_value, seconds), False
    except ChannelTimeout:
        return job.failed(Verdict.TIMEOUT, f"limit:{timeout_s:g}s", time.monotonic() - start), True
    except (WorkerDied, NotAScore) as error:
        return job.failed(Verdict.CRASHED, str(error), time.monotonic() - start), True


def _close_all() -> None:
    for pool in list(_POOLS):
        pool.close()


def _forget_all() -> None:
    for pool in list(_POOLS):
        pool._forget_after_fork()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget_all)
