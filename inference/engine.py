"""Engine: open, fork, submit, step, close; decoding of token trees over a live transformers model.

See ARCHITECTURE.md, "The engine's contract", and docs/engine.md. The engine is not thread-safe: one
thread at a time calls it, and a session is entered and left by the same thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import get_args

import torch

from inference.executor import StepExecutor
from inference.kv.cache import TreeCache
from inference.kv.pool import KVBudgetError, SlotPool
from inference.path import Path, Request
from inference.philox import uniforms
from inference.requests import DecodedSegment, SamplingParams, StopCause
from inference.sampling import Draws, sample
from inference.scheduler import Scheduler, StepWork
from inference.step_plan import AttentionChoice
from inference.supported import UnsupportedModelError

__all__ = [
    "Engine",
    "EngineConfig",
    "EngineStats",
    "KVBudgetError",
    "Path",
    "UnsupportedModelError",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Limits of an engine; none of them changes results, up to rounding."""

    max_kv_tokens: int | None = None
    """Tokens whose KV may be stored at once; None = grow as needed."""
    max_batch_tokens: int = 4096
    """Tokens fed in one forward; longer prompts are fed in several."""
    max_running: int = 512
    """Requests that decode at the same time; the others wait."""
    attention: AttentionChoice = "auto"
    """"native" is the compiled CPU kernel, "shared_prefix" and "gather" are torch operations (a common
    prefix is read once, or once per branch); "auto" takes the first that runs here."""
    fast_layers: bool = True
    """On a CPU, keep a copy of the linear weights in oneDNN's layout while a session is open, and fuse
    norms; see packed_weights.py and fused_norms.py."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.max_kv_tokens is not None and self.max_kv_tokens < 1:
            raise ValueError(
                f"max_kv_tokens={self.max_kv_tokens} must be positive; None = no limit"
            )
        if self.max_batch_tokens < 1:
            raise ValueError(f"max_batch_tokens={self.max_batch_tokens} must be at least 1")
        if self.max_running < 1:
            raise ValueError(f"max_running={self.max_running} must be at least 1")
        if self.attention not in get_args(AttentionChoice):
            raise ValueError(
                f"attention={self.attention!r}; choose one of {get_args(AttentionChoice)}"
            )


@dataclass(slots=True)
class EngineStats:
    """Counters since the engine was made or `reset_stats` was called."""

    forwards: int = 0
    tokens_computed: int = 0
    """Tokens fed through the model."""
    tokens_sampled: int = 0
    peak_kv_bytes: int = 0


class Engine:
    """Decodes token trees with the weights of a live module."""

    def __init__(self, model: torch.nn.Module, config: EngineConfig | None = None) -> None:
        self.config = config or EngineConfig()
        self.stats = EngineStats()
        self._executor = StepExecutor(
            model, attention=self.config.attention, fast_layers=self.config.fast_layers
        )
        self._runner, self._kv = self._executor.runner, self._executor.kv
        self._cache = TreeCache(SlotPool(self.config.max_kv_tokens))
        self._scheduler = Scheduler(
            self._cache,
            max_batch_tokens=self.config.max_batch_tokens,
            max_running=self.config.max_running,
        )
        self._paths: dict[int, Path] = {}
        self._policy_version = 0
        self._in_session = False

    # ---------------------------------------------------------------- session and weights

    @contextmanager
    def session(self) -> Iterator[Engine]:
        """Switch the module to decoding; everything is restored on exit, also after an exception.

        The first session compares the engine with a plain forward. An exception inside closes all
        paths. KV memory is given back on exit if no path is open.

        Raises:
            UnsupportedModelError: The engine does not reproduce the model's own forward.
        """
        if self._in_session:
            raise RuntimeError("the engine is already in a session; sessions do not nest")
        self._in_session = True
        try:
            with self._executor.decoding():
                yield self
        except BaseException:
            self.reset()
            raise
        finally:
            self._in_session = False
            self._drop_unused()

    @property
    def policy_version(self) -> int:
        """Version of the weights, as last told."""
        return self._policy_version

    def set_policy_version(self, version: int) -> None:
        """Tell the engine that the weights changed; KV of older weights is dropped.

        Raises:
            ValueError: The version is new and paths are open.
        """
        if version == self._policy_version:
            return
        if self._paths:
            raise ValueError(
                f"policy version {version} with {len(self._paths)} open paths of version "
                f"{self._policy_version}; close them before the weights change"
            )
        self._policy_version = version
        self._executor.forget_weights()
        self._drop_unused()

    # ---------------------------------------------------------------- paths

    def open(self, token_ids: Sequence[int]) -> Path:
        """Return a path with these tokens; nothing is computed yet."""
        if not token_ids:
            raise ValueError("a path needs at least one token; give a prompt or a start token")
        self._runner.check_ids(token_ids)
        return self._register(Path(self._cache.open(token_ids)))

    def fork(self, path: Path, num: int, length: int | None = None) -> list[Path]:
        """Return `num` paths with the first `length` tokens of `path` (None: all of them).

        Nothing is copied; `path` stays open. Children at the same length share one row of logits
        when they are submitted before the same step.
        """
        self._check_open(path)
        if num < 1:
            raise ValueError(f"num={num} must be at least 1")
        if length is not None and not 1 <= length <= path.length:
            raise ValueError(f"length={length} is outside 1..{path.length}, the length of the path")
        node = self._cache.locate(path.tip, path.length if length is None else length)
        self._cache.attach(node, num)
        return [self._register(Path(node)) for _ in range(num)]

    def append(self, path: Path, token_ids: Sequence[int]) -> None:
        """Add tokens that were not drawn (observations) to an idle path."""
        self._check_idle(path)
        self._runner.check_ids(token_ids)
        if token_ids:
            path.tip = self._cache.extend(path.tip, token_ids)

    def close(self, *paths: Path) -> None:
        """Close paths; KV that no other path needs is freed.

        Raises:
            ValueError: A path was closed before, or a request runs on it.
        """
        for path in paths:
            self._check_idle(path)
            path.is_open = False
            del self._paths[id(path)]
            self._cache.release(path.tip)

    def reset(self) -> None:
        """Cancel all requests, close all paths and free all KV."""
        self._scheduler.clear()
        for path in self._paths.values():
            path.is_open = False
        self._paths.clear()
        self._cache.clear()
        self._drop_unused()

    # ---------------------------------------------------------------- decoding

    def submit(
        self,
        path: Path,
        *,
        max_new_tokens: int,
        sampling: SamplingParams,
        stop_token_ids: Sequence[int] = (),
        key: int,
    ) -> None:
        """Ask for up to `max_new_tokens` tokens on a path; `step` draws them.

        Args:
            path: An open path without a request.
            max_new_tokens: At least 1.
            sampling: How tokens are drawn.
            stop_token_ids: Drawing stops after one of them; it is part of the result.
            key: 64-bit number; the token at position t of the path is drawn with philox(key, t).
        """
        self._check_idle(path)
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={max_new_tokens} must be at least 1")
        if not 0 <= key < 1 << 64:
            raise ValueError(f"key={key} is no 64-bit number; use inference.philox.path_key")
        self._runner.check_length(path.length + max_new_tokens)
        self._scheduler.submit(
            Request(
                path=path,
                max_new_tokens=max_new_tokens,
                sampling=sampling,
                stop_token_ids=frozenset(stop_token_ids),
                key=key,
            )
        )

    @property
    def has_work(self) -> bool:
        """Whether any request has not ended."""
        return self._scheduler.has_work

    def step(self) -> list[tuple[Path, DecodedSegment]]:
        """Run one forward, draw one token for each request that is ready; return what ended.

        Raises:
            KVBudgetError: One path alone needs more KV than `max_kv_tokens`.
            FloatingPointError: The model returned NaN.
        """
        if not self._in_session:
            raise RuntimeError("step outside of a session; use `with engine.session():`")
        work = self._scheduler.plan()
        if work is None:
            return []
        logits = self._forward(work)
        if not work.ready:
            return []
        positions = [request.path.length for request in work.ready]
        draws = sample(
            logits,
            [request.sampling for request in work.ready],
            uniforms([request.key for request in work.ready], positions),
            source_R=work.source,
        )
        self.stats.tokens_sampled += len(work.ready)
        return self._record(work.ready, draws)

    def cancel(self, path: Path) -> DecodedSegment | None:
        """End the request on a path now; return what was drawn, None if nothing was.

        The tokens drawn so far stay on the path.
        """
        request = self._scheduler.request_of(path)
        if request is None:
            raise ValueError("the path has no request to cancel; it ended or was never submitted")
        self._scheduler.remove(request)
        if not request.token_ids:
            return None
        return request.segment(StopCause.CANCELLED, self._policy_version)

    def decode(
        self,
        paths: Sequence[Path],
        *,
        max_new_tokens: int,
        sampling: SamplingParams,
        stop_token_ids: Sequence[int] = (),
        keys: Sequence[int],
    ) -> list[DecodedSegment]:
        """Submit one request per path, run to the end, and return the results in order."""
        if self.has_work:
            raise ValueError("other requests are running; use submit and step beside them")
        for path, key in zip(paths, keys, strict=True):
            self.submit(
                path,
                max_new_tokens=max_new_tokens,
                sampling=sampling,
                stop_token_ids=stop_token_ids,
                key=key,
            )
        results: dict[int, DecodedSegment] = {}
        while self.has_work:
            results.update((id(path), segment) for path, segment in self.step())
        return [results[id(path)] for path in paths]

    # ---------------------------------------------------------------- accounting

    @property
    def kv_bytes(self) -> int:
        """Bytes of stored KV; 0 after all paths are closed."""
        return self._cache.pool.num_used * self._kv.bytes_per_token

    @property
    def kv_reserved_bytes(self) -> int:
        """Bytes of the KV tensors, used and free slots together."""
        return self._kv.reserved_bytes

    @property
    def num_open_paths(self) -> int:
        """Paths that were opened or forked and not closed."""
        return len(self._paths)

    def reset_stats(self) -> None:
        """Start counting anew."""
        self.stats = EngineStats()

    def check(self) -> None:
        """Assert the invariants of the tree cache; slow, for tests."""
        self._cache.check()

    # ---------------------------------------------------------------- helpers

    def _forward(self, work: StepWork) -> torch.Tensor:
        try:
            logits = self._executor.logits(work, num_slots=self._cache.pool.num_created)
        except BaseException:
            self._scheduler.undo(work)
            raise
        self.stats.forwards += 1
        self.stats.tokens_computed += len(work.token_ids)
        self.stats.peak_kv_bytes = max(self.stats.peak_kv_bytes, self.kv_bytes)
        self._scheduler.settle(work)
        return logits

    def _record(self, ready: Sequence[Request], draws: Draws) -> list[tuple[Path, DecodedSegment]]:
        ended: list[tuple[Path, DecodedSegment]] = []
        columns = (draws.token_ids, draws.logprobs, draws.behaviour_logprobs, draws.entropies)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for request, row in zip(ready, rows, strict=True):
            request.record(*row)
            self._scheduler.extend(request, row[0])
            cause = request.cause()
            if cause is not None:
                self._scheduler.remove(request)
                ended.append((request.path, request.segment(cause, self._policy_version)))
        return ended

    def _register(self, path: Path) -> Path:
        self._paths[id(path)] = path
        return path

    def _drop_unused(self) -> None:
        if not self._paths:
            self._cache.pool.reset()
            self._kv.drop()

    def _check_open(self, path: Path) -> None:
        if self._paths.get(id(path)) is not path:
            raise ValueError("the path is closed or belongs to another engine")

    def _check_idle(self, path: Path) -> None:
        self._check_open(path)
        if self._scheduler.request_of(path) is not None:
            raise ValueError("a request runs on the path; wait for its end or cancel it first")
