"""Fakes for tests: small, deterministic stand-ins that check what they are given."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from inference.requests import DecodedSegment, SamplingParams, StopCause
from rollout.tree import Segment


@dataclass(frozen=True, kw_only=True)
class FakeRequest:
    """What a script sees of a request, and what the log keeps of it."""

    input_ids: tuple[int, ...]
    prompt_length: int
    max_new_tokens: int
    stop_token_ids: tuple[int, ...]
    key: int
    step: int
    """Engine steps that were made before it was submitted."""

    @property
    def rng(self) -> random.Random:
        """The same numbers for the same key and input."""
        return random.Random(f"{self.key}:{self.input_ids}")


Script = Callable[[FakeRequest], Sequence[int]]
"""The tokens that the model wants to write; cut after a stop token and at max_new_tokens."""


@dataclass(eq=False)
class FakePath:
    """An engine path: all of its tokens."""

    token_ids: tuple[int, ...]
    prompt_length: int
    is_open: bool = True


def counting_script(request: FakeRequest) -> list[int]:
    """Never stops: random tokens between 100 and 10^6, different in every request."""
    rng = request.rng
    return [rng.randrange(100, 10**6) for _ in range(request.max_new_tokens)]


def ending_script(eos: int, probability: float) -> Script:
    """Writes random tokens; each one is `eos` with the given probability."""

    def script(request: FakeRequest) -> list[int]:
        rng = request.rng
        tokens = counting_script(request)
        return [eos if rng.random() < probability else token for token in tokens]

    return script


@dataclass
class FakeEngine:
    """A scripted engine with the contract of growth: it keeps whole paths and computes nothing.

    `log` holds (request, written tokens) in order of submission. Every request takes one step, or
    as many steps as it has tokens if `one_token_per_step`. With `shuffle_seed` the ended requests
    of a step come in random order. Step number `fail_at_step` raises.
    """

    script: Script = counting_script
    one_token_per_step: bool = False
    shuffle_seed: int | None = None
    fail_at_step: int | None = None
    policy_version: int = 0
    log: list[tuple[FakeRequest, tuple[int, ...]]] = field(default_factory=list)
    num_steps: int = 0
    num_open: int = 0
    open_at_step: list[int] = field(default_factory=list)
    _running: dict[FakePath, tuple[FakeRequest, tuple[int, ...], int]] = field(default_factory=dict)

    @property
    def has_work(self) -> bool:
        return bool(self._running)

    def open(self, token_ids: Sequence[int]) -> FakePath:
        assert token_ids, "a path holds at least one token"
        return self._new_path(tuple(token_ids), len(token_ids))

    def fork(self, path: FakePath, num: int, length: int | None = None) -> list[FakePath]:
        assert path.is_open and path not in self._running, "fork of a closed or running path"
        length = len(path.token_ids) if length is None else length
        assert path.prompt_length <= length <= len(path.token_ids), "fork outside the response"
        assert num >= 1
        prefix = path.token_ids[:length]
        return [self._new_path(prefix, path.prompt_length) for _ in range(num)]

    def submit(
        self,
        path: FakePath,
        *,
        max_new_tokens: int,
        sampling: SamplingParams,
        stop_token_ids: Sequence[int],
        key: int,
    ) -> None:
        assert path.is_open and path not in self._running, "submit on a closed or running path"
        assert max_new_tokens >= 1 and 0 <= key < 2**64
        request = FakeRequest(
            input_ids=path.token_ids,
            prompt_length=path.prompt_length,
            max_new_tokens=max_new_tokens,
            stop_token_ids=tuple(stop_token_ids),
            key=key,
            step=self.num_steps,
        )
        tokens = _cut(self.script(request), request)
        self.log.append((request, tokens))
        duration = len(tokens) if self.one_token_per_step else 1
        self._running[path] = (request, tokens, self.num_steps + duration)

    def step(self) -> list[tuple[FakePath, DecodedSegment]]:
        assert self._running, "step without work"
        self.num_steps += 1
        self.open_at_step.append(self.num_open)
        if self.num_steps == self.fail_at_step:
            raise RuntimeError("scripted failure")
        ended = [path for path, (_, _, end) in self._running.items() if end <= self.num_steps]
        if self.shuffle_seed is not None:
            random.Random(self.shuffle_seed + self.num_steps).shuffle(ended)
        return [(path, self._finish(path)) for path in ended]

    def cancel(self, path: FakePath) -> None:
        del self._running[path]

    def append(self, path: FakePath, token_ids: Sequence[int]) -> None:
        assert path.is_open and path not in self._running, "append to a closed or running path"
        path.token_ids += tuple(token_ids)

    def close(self, path: FakePath) -> None:
        assert path.is_open, "closed twice"
        assert path not in self._running, "close of a running path"
        path.is_open = False
        self.num_open -= 1

    def _new_path(self, token_ids: tuple[int, ...], prompt_length: int) -> FakePath:
        self.num_open += 1
        return FakePath(token_ids, prompt_length)

    def _finish(self, path: FakePath) -> DecodedSegment:
        request, tokens, _ = self._running.pop(path)
        assert path.token_ids == request.input_ids, "the path changed under its request"
        path.token_ids += tokens
        is_stopped = tokens[-1] in request.stop_token_ids
        return DecodedSegment(
            token_ids=tokens,
            logprobs=tuple(fake_logprob(token) for token in tokens),
            behaviour_logprobs=tuple(fake_logprob(token) for token in tokens),
            entropies=(0.5,) * len(tokens),
            cause=StopCause.STOP_TOKEN if is_stopped else StopCause.LENGTH,
            policy_version=self.policy_version,
        )


def fake_logprob(token: int) -> float:
    """A log-prob that a test can recompute from the token."""
    return -(1.0 + token % 97) / 64.0


def _cut(tokens: Sequence[int], request: FakeRequest) -> tuple[int, ...]:
    tokens = tuple(tokens[: request.max_new_tokens])
    assert tokens, "a script writes at least one token"
    for position, token in enumerate(tokens):
        if token in request.stop_token_ids:
            return tokens[: position + 1]
    return tokens


class GreedyBranching:
    """A branch policy from outside the package: everything to the first active path."""

    def __init__(self, branching: int) -> None:
        self.branching = branching

    def allocate(
        self,
        stopped: Sequence[Sequence[Segment]],
        active: Sequence[Sequence[Segment]],
        remaining: int,
        rng: random.Random,
    ) -> list[int]:
        return [remaining - len(active) + 1] + [1] * (len(active) - 1)


def last_logprob(paths: Sequence[Sequence[Segment]]) -> list[float]:
    """A value function: the log-prob of the newest token of each path."""
    return [path[-1].logprobs[-1] for path in paths]
