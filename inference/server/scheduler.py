"""Continuous batching: one thread owns the engine and serves all requests together.

    submit(jobs)  ->  waiting (FIFO, bounded)  ->  admitted while its KV tokens fit  ->  deltas

A job is one prompt with n answers: the prompt is opened once and forked n times. An answer is drawn
in turns of a few tokens on the same path; between two turns its text is checked for stop strings
and its job for cancellation. The draw at a position depends only on the key and the position, so
neither the length of a turn nor the other jobs change an answer.

A job reserves KV for its prompt and all its answers at full length before it starts, hence an
admitted job always ends. Errors: `QueueFull` and `SchedulerDown` at submission; afterwards every
answer gets exactly one last event: a delta with `finish`, or one `Failure` for the whole job.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from inference.engine import Engine, Path
from inference.requests import DecodedSegment, SamplingParams, StopCause
from inference.server.text import Decode, TextStream

logger = logging.getLogger(__name__)


class QueueFull(Exception):
    """As many prompts as allowed are waiting."""


class SchedulerDown(Exception):
    """The engine thread has ended; the message says why."""


class Finish(StrEnum):
    """Why an answer ended, in the words of the OpenAI API."""

    STOP = "stop"
    """The model ended it or a stop string appeared."""
    LENGTH = "length"
    """The token limit was reached."""


@dataclass(frozen=True, slots=True)
class DrawnToken:
    """One drawn token of an answer."""

    id: int
    logprob: float
    """Nats, full vocabulary, at the sampling temperature."""
    offset: int
    """Characters of the answer decoded before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What one turn added to one answer."""

    index: int
    """Which answer of the request."""
    text: str
    """Text that may be sent; may lag behind the tokens."""
    tokens: tuple[DrawnToken, ...]
    finish: Finish | None
    """Set in the last delta of the answer."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The job ended without an answer."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """One prompt and the answers wanted for it; two jobs are equal only if they are one object."""

    prompt_ids: tuple[int, ...]
    keys: tuple[int, ...]
    """Random key of each answer; their number is the number of answers."""
    first_index: int = 0
    """Index of the first answer in the request."""
    max_new_tokens: int
    sampling: SamplingParams
    stop: tuple[str, ...] = ()
    """Strings that end an answer."""
    turn_tokens: int = 8
    """Tokens drawn between two deltas; 1 for streams."""
    send: Callable[[Delta | Failure], None]
    """Takes the events; called in the engine thread, so it must not block."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set by the caller to give up the job; no event is promised afterwards."""

    @property
    def kv_tokens(self) -> int:
        """Tokens whose KV the job can need at most."""
        return len(self.prompt_ids) + len(self.keys) * self.max_new_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the scheduler is doing."""

    waiting: int
    """Prompts not started."""
    running: int
    """Answers being drawn."""
    kv_bytes: int
    """KV held by the engine after its last step."""


@dataclass(slots=True, kw_only=True)
class _Answer:
    """One answer while it is drawn."""

    job: Job
    index: int
    key: int
    path: Path
    text: TextStream
    num_left: int


class Scheduler:
    """Owns the engine in a thread of its own.

    Args:
        engine: Used by this object alone.
        decode: Text of token ids, special tokens removed.
        stop_token_ids: Tokens with which the model ends an answer.
        max_kv_tokens: Jobs are admitted while their reservations sum to at most this.
        max_queue: Prompts that may wait.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        decode: Decode,
        stop_token_ids: Sequence[int],
        max_kv_tokens: int,
        max_queue: int,
    ) -> None:
        self._engine = engine
        self._decode = decode
        self._stop_token_ids = tuple(stop_token_ids)
        self._max_kv_tokens = max_kv_tokens
        self._max_queue = max_queue
        self._changed = threading.Condition()  # guards the four fields below
        self._waiting: deque[Job] = deque()
        self._is_stopping = False
        self._down: str | None = "not started"
        self._load = Load(waiting=0, running=0, kv_bytes=0)
        self._answers: dict[Path, _Answer] = {}  # this and the next: engine thread only
        self._num_open: dict[Job, int] = {}  # answers not ended of every admitted job
        self._reserved_tokens = 0

    @contextmanager
    def running(self, join_s: float = 10.0) -> Iterator[Scheduler]:
        """The engine thread is up inside the block; what is left at its end fails."""
        thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._down = None
        thread.start()
        try:
            yield self
        finally:
            with self._changed:
                self._is_stopping = True
                self._changed.notify()
            thread.join(join_s)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue the jobs of one request, all or none.

        Raises:
            QueueFull: `max_queue` prompts are waiting.
            SchedulerDown: the engine thread does not run.
        """
        assert all(job.kv_tokens <= self._max_kv_tokens for job in jobs), "job can never start"
        with self._changed:
            if self._down is not None:
                raise SchedulerDown(self._down)
            if len(self._waiting) >= self._max_queue:
                raise QueueFull(f"{len(self._waiting)} prompts are waiting")
            self._waiting.extend(jobs)
            self._changed.notify()

    @property
    def load(self) -> Load:
        """A snapshot; safe from any thread."""
        with self._changed:
            waiting = len(self._waiting)
            return Load(waiting=waiting, running=self._load.running, kv_bytes=self._load.kv_bytes)

    @property
    def down_reason(self) -> str | None:
        """Why no request can be served, None when all is well."""
        return self._down

    def _run(self) -> None:
        try:
            with self._engine.session():
                while self._wait_for_work():
                    self._turn()
                self._give_up("the server is shutting down")
                self._drain()
        except Exception as error:  # boundary: every request in flight must hear of it
            logger.exception("the engine thread failed")
            self._give_up(f"the engine failed: {type(error).__name__}: {error}")

    def _wait_for_work(self) -> bool:
        """Sleep until there is something to do; False when the thread has to end."""
        with self._changed:
            self._note_load()
            while not (self._waiting or self._answers or self._is_stopping):
                self._changed.wait()
            return not self._is_stopping

    def _turn(self) -> None:
        while (job := self._next_job()) is not None:
            self._start(job)
        if self._engine.has_work:
            for path, segment in self._engine.step():
                self._advance(self._answers[path], segment)

    def _next_job(self) -> Job | None:
        """The first waiting job if it fits; jobs given up while waiting are dropped."""
        with self._changed:
            self._waiting = deque(job for job in self._waiting if not job.cancelled.is_set())
            if not self._waiting:
                return None
            if self._reserved_tokens + self._waiting[0].kv_tokens > self._max_kv_tokens:
                return None
            return self._waiting.popleft()

    def _start(self, job: Job) -> None:
        self._reserved_tokens += job.kv_tokens
        self._num_open[job] = len(job.keys)
        root = self._engine.open(job.prompt_ids)
        paths = self._engine.fork(root, num=len(job.keys))
        self._engine.close(root)
        for index, (path, key) in enumerate(zip(paths, job.keys, strict=True), job.first_index):
            text = TextStream(self._decode, job.stop)
            answer = _Answer(
                job=job, index=index, key=key, path=path, text=text, num_left=job.max_new_tokens
            )
            self._answers[path] = answer
            self._draw(answer)

    def _draw(self, answer: _Answer) -> None:
        self._engine.submit(
            answer.path,
            max_new_tokens=min(answer.job.turn_tokens, answer.num_left),
            sampling=answer.job.sampling,
            stop_token_ids=self._stop_token_ids,
            key=answer.key,
        )

    def _advance(self, answer: _Answer, segment: DecodedSegment) -> None:
        """Hand on what a turn drew, then end the answer or start its next turn."""
        if answer.job.cancelled.is_set():
            self._end(answer)
            return
        delta = _read_turn(answer, segment)
        if delta.finish is None:
            self._draw(answer)
        else:
            self._end(answer)
        answer.job.send(delta)

    def _end(self, answer: _Answer) -> None:
        self._engine.close(answer.path)
        del self._answers[answer.path]
        job = answer.job
        self._num_open[job] -= 1
        if not self._num_open[job]:
            del self._num_open[job]
            self._reserved_tokens -= job.kv_tokens

    def _give_up(self, reason: str) -> None:
        """Refuse new jobs and tell those that were accepted."""
        with self._changed:
            self._down = reason
            jobs = [*self._num_open, *self._waiting]
            self._waiting.clear()
        for job in jobs:
            if not job.cancelled.is_set():
                job.cancelled.set()
                job.send(Failure(reason))

    def _drain(self) -> None:
        """Stop drawing at once and close all paths."""
        for answer in list(self._answers.values()):
            self._engine.cancel(answer.path)
            self._end(answer)
        self._note_load()

    def _note_load(self) -> None:
        self._load = Load(
            waiting=0, running=len(self._answers), kv_bytes=int(self._engine.kv_bytes)
        )


def _read_turn(answer: _Answer, segment: DecodedSegment) -> Delta:
    """Turn the tokens of a segment into text, up to a stop string."""
    has_ended = segment.cause is StopCause.STOP_TOKEN
    num_text_tokens = len(segment.token_ids) - has_ended
    tokens: list[DrawnToken] = []
    text = ""
    for position, token_id in enumerate(segment.token_ids):
        offset = answer.text.num_decoded
        tokens.append(DrawnToken(token_id, segment.logprobs[position], offset))
        if position < num_text_tokens:
            text += answer.text.push(token_id)
        if answer.text.has_stopped:
            break
    answer.num_left -= len(tokens)
    if not answer.text.has_stopped and (has_ended or not answer.num_left):
        text += answer.text.finish()
        has_ended = has_ended or answer.text.has_stopped
    finish = _finish(has_ended or answer.text.has_stopped, answer.num_left)
    return Delta(index=answer.index, text=text, tokens=tuple(tokens), finish=finish)


def _finish(has_ended: bool, num_left: int) -> Finish | None:
    if has_ended:
        return Finish.STOP
    return None if num_left else Finish.LENGTH
