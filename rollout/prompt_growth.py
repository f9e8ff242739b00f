"""The growth of one prompt's tree, level by level, as a state machine (TreePO, arXiv 2508.17445, alg. 1).

    start --> level of requests --(all ended)--> stop tests --> stopped: leaves
                    ^                                 |  others: forked as the branch policy says
                    +---------------------------------+  no path left, leaves missing: fallback

Which engine paths are open: the level's own; the prompt and the leaves that fallback may shorten
until leaves plus active paths cover the width; nothing after the last leaf.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from inference.requests import DecodedSegment, SamplingParams
from rollout.branching.base import BranchPolicy, EarlyStop, ResponsePath, checked_allocation
from rollout.config import PromptTask, RolloutConfig
from rollout.fallback import RESTARTABLE, plan_fallback
from rollout.keys import stable_key
from rollout.stopping import AnswerTest, StopView, finish_reason
from rollout.tree import FinishReason, RolloutTree, Segment, TokenDraws

PathT = TypeVar("PathT")
Decode = Callable[[Sequence[int]], str]
"""Token ids to text, special tokens left out."""


class SegmentEngine(Protocol[PathT]):
    """What growth needs of an engine; the caller has entered its session. Paths are compared by identity."""

    @property
    def policy_version(self) -> int:
        """Version of the weights that draw the tokens."""
        ...

    @property
    def has_work(self) -> bool:
        """True while a submitted request has not ended."""
        ...

    def open(self, token_ids: Sequence[int], /) -> PathT:
        """A path that holds the prompt; computes nothing."""
        ...

    def fork(self, path: PathT, /, num: int, length: int | None = None) -> list[PathT]:
        """`num` new paths that share the first `length` tokens of `path` (prompt included; None: all)."""
        ...

    def submit(
        self,
        path: PathT,
        /,
        *,
        max_new_tokens: int,
        sampling: SamplingParams,
        stop_token_ids: Sequence[int],
        key: int,
    ) -> None:
        """Ask for a segment on `path`; the draws depend on `key` and the path's tokens only."""
        ...

    def step(self) -> list[tuple[PathT, DecodedSegment]]:
        """Advance all requests; the ones that ended in this step."""
        ...

    def cancel(self, path: PathT, /) -> object:
        """End the running request of a path now."""
        ...

    def append(self, path: PathT, token_ids: Sequence[int], /) -> None:
        """Add tokens that nobody draws (an observation) to a path without a request."""
        ...

    def close(self, path: PathT, /) -> None:
        """Give up a path without a request."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthRules:
    """What all prompts of a call have in common."""

    config: RolloutConfig
    policy: BranchPolicy
    decode: Decode
    eos_token_ids: frozenset[int]
    has_answer: AnswerTest | None
    """What a complete answer is; None: a closed box."""


@dataclass(slots=True, kw_only=True)
class Branch(Generic[PathT]):
    """A path that is alive, or a leaf that fallback may shorten."""

    path: PathT
    """Handle of the engine."""
    tip: int
    """Id of its last segment."""
    num_tokens: int
    """Length of the response so far."""
    lineage: tuple[int, ...]
    """Child index at each level, the running request included; names the request."""
    decoded: DecodedSegment | None = None
    """What the running request brought, once it ended."""


class PromptGrowth(Generic[PathT]):
    """Grows `tree` to exactly `width` leaves; feed it with what its requests bring.

    Args of the constructor: the engine; the prompt; the rules; `origin`, the words (seed, prompt
    id, occurrence) that every key and every random choice of this tree derive from; `running`, to
    which it adds each request that it submits (the caller removes a request when it ended).
    """

    def __init__(
        self,
        engine: SegmentEngine[PathT],
        task: PromptTask,
        *,
        rules: GrowthRules,
        origin: tuple[int | str, ...],
        running: Running[PathT],
    ) -> None:
        self.tree = RolloutTree(prompt_id=task.prompt_id, example=task.example)
        self._engine = engine
        self._rules = rules
        self._config = rules.config
        self._origin = origin
        self._running = running
        self._rng = random.Random(stable_key(*origin, "choices"))
        self._num_first = self._rng.randint(*rules.config.divergence_range)
        self._prompt_ids = tuple(task.token_ids)
        self._root: PathT | None = None
        self._root_tip = 0
        self._root_tokens = 0
        self._open: dict[int, PathT] = {}
        self._level: list[Branch[PathT]] = []
        self._finished: list[Branch[PathT]] = []
        self._texts: list[str] = []
        self._num_born: Counter[int] = Counter()

    @property
    def num_missing(self) -> int:
        """Leaves that neither a stopped nor an active path covers."""
        return self._config.width - len(self.tree.leaves) - len(self._level)

    @property
    def is_complete(self) -> bool:
        """True when the tree has all its leaves."""
        return len(self.tree.leaves) == self._config.width

    def start(self) -> None:
        """Open the prompt and submit its first level."""
        self._open_prompt()
        self._fork_root(self._num_first)
        self._submit_level()

    def receive(self, path: PathT, decoded: DecodedSegment) -> None:
        """Take the segment of one request; submit the next level if it was the last of its level."""
        branch = self._branch_of(path)
        assert branch.decoded is None, "one segment per request"
        branch.decoded = decoded
        self._advance()

    def close(self) -> None:
        """Close every engine path that is still open; no request may run on them."""
        for path in list(self._open.values()):
            self._close(path)

    def _open_prompt(self) -> None:
        self._root = self._track(self._engine.open(self._prompt_ids))
        version = self._engine.policy_version
        self.tree.add_segment(parent=None, token_ids=self._prompt_ids, policy_version=version)
        self._texts.append("")

    def _branch_of(self, path: PathT) -> Branch[PathT]:
        return next(branch for branch in self._level if branch.path is path)

    def _advance(self) -> None:
        """Go to the next level if this one has ended."""
        if self._is_level_over():
            self._end_level()
            self._submit_level()

    def _is_level_over(self) -> bool:
        return all(branch.decoded is not None for branch in self._level)

    def _end_level(self) -> None:
        level, self._level = self._level, []
        tips = {branch.tip: branch for branch in map(self._record, level)}
        self._prune(tips)
        segments = [self.tree.segments[tip] for tip in tips]
        stopped = [segment for segment in segments if segment.finish is not None]
        active = [segment for segment in segments if segment.finish is None]
        for segment in stopped:
            self._retire(tips[segment.id], segment)
        for segment, num in zip(active, self._allocate(stopped, active), strict=True):
            self._deepen(tips[segment.id], num)
        if not self._level and self.num_missing:
            self._fall_back()

    def _record(self, branch: Branch[PathT]) -> Branch[PathT]:
        """Turn what the request brought into a segment of the tree."""
        decoded, branch.decoded = branch.decoded, None
        assert decoded is not None and decoded.token_ids, "a request brings at least one token"
        self._texts.append(self._rules.decode(decoded.token_ids))
        branch.num_tokens += len(decoded.token_ids)
        segment = self.tree.add_segment(
            parent=branch.tip,
            token_ids=decoded.token_ids,
            policy_version=decoded.policy_version,
            draws=TokenDraws(
                logprobs=decoded.logprobs,
                behaviour_logprobs=decoded.behaviour_logprobs,
                entropies=decoded.entropies,
            ),
            finish=self._finish(branch, decoded),
        )
        branch.tip = segment.id
        return branch

    def _finish(self, branch: Branch[PathT], decoded: DecodedSegment) -> FinishReason | None:
        """Why the path stops after its newest segment, whose text is the last of `_texts`."""
        return finish_reason(
            self._view(branch, decoded),
            self._config.stop,
            max_tokens=self._config.response_limit,
            max_segments=self._config.max_segments,
            has_answer=self._rules.has_answer,
        )

    def _view(self, branch: Branch[PathT], decoded: DecodedSegment) -> StopView:
        before = "".join(self._texts[i] for i in self.tree.path_of(branch.tip))
        return StopView(
            segment_text=self._texts[-1],
            response_text=before + self._texts[-1],
            has_eos=not self._rules.eos_token_ids.isdisjoint(decoded.token_ids),
            num_tokens=branch.num_tokens,
            num_segments=len(branch.lineage),
        )

    def _prune(self, tips: Iterable[int]) -> None:
        """End the paths that the branch policy gives up, if it does such things."""
        policy = self._rules.policy
        active = [tip for tip in tips if self.tree.segments[tip].finish is None]
        if not active or not isinstance(policy, EarlyStop):
            return
        stops = policy.early_stops([self._path(tip) for tip in active])
        for tip, is_stopped in zip(active, stops, strict=True):
            if is_stopped:
                self.tree.prune(tip)

    def _path(self, tip: int) -> ResponsePath:
        return [self.tree.segments[i] for i in self.tree.path_of(tip)]

    def _allocate(self, stopped: Sequence[Segment], active: Sequence[Segment]) -> list[int]:
        if not active:
            return []
        remaining = self.num_missing
        children = self._rules.policy.allocate(
            [self._path(segment.id) for segment in stopped],
            [self._path(segment.id) for segment in active],
            remaining,
            self._rng,
        )
        return checked_allocation(children, num_active=len(active), remaining=remaining)

    def _retire(self, branch: Branch[PathT], leaf: Segment) -> None:
        if self._config.fallback and leaf.finish in RESTARTABLE:
            self._finished.append(branch)
        else:
            self._close(branch.path)

    def _deepen(self, branch: Branch[PathT], num: int) -> None:
        """Go on with `num` children; an only child keeps the engine path."""
        if num == 1:
            self._add_branch(branch.path, branch.tip, branch.num_tokens, branch.lineage)
            return
        for path in self._engine.fork(branch.path, num):
            self._add_branch(self._track(path), branch.tip, branch.num_tokens, branch.lineage)
        self._close(branch.path)

    def _fall_back(self) -> None:
        forks = plan_fallback(
            [len(branch.lineage) for branch in self._finished],
            missing=self.num_missing,
            branching=self._config.branching,
            num_restarts=self._num_first,
            rng=self._rng,
        )
        if self.tree.leaves_before_fallback is None:
            self.tree.leaves_before_fallback = len(self.tree.leaves)
        self.tree.num_fallback_paths += sum(fork.num_paths for fork in forks)
        for fork in forks:
            if fork.candidate is None or fork.num_kept == 0:
                self._fork_root(fork.num_paths)
            else:
                self._fork_at(self._finished[fork.candidate], fork.num_kept, fork.num_paths)

    def _fork_root(self, num: int) -> None:
        assert self._root is not None, "the prompt is open while leaves are missing"
        for path in self._engine.fork(self._root, num):
            self._add_branch(self._track(path), self._root_tip, self._root_tokens, ())

    def _fork_at(self, source: Branch[PathT], num_kept: int, num: int) -> None:
        """Start `num` paths after the first `num_kept` requests of a finished response.

        What an environment answered to the last of them belongs to the part that is kept.
        """
        path_ids = self.tree.path_of(source.tip)
        requests = [at for at, i in enumerate(path_ids) if self.tree.segments[i].sampled[0]]
        kept = path_ids[: requests[num_kept]]
        length = sum(len(self.tree.segments[i].token_ids) for i in kept)
        num_tokens = length - len(self._prompt_ids)
        for path in self._engine.fork(source.path, num, length=length):
            self._add_branch(self._track(path), kept[-1], num_tokens, source.lineage[:num_kept])

    def _add_branch(self, path: PathT, tip: int, num_tokens: int, lineage: tuple[int, ...]) -> None:
        lineage = (*lineage, self._num_born[tip])
        self._num_born[tip] += 1
        self._level.append(Branch(path=path, tip=tip, num_tokens=num_tokens, lineage=lineage))

    def _submit_level(self) -> None:
        if not self.num_missing:
            self._release_sources()
        for branch in self._level:
            self._submit(branch, self._segment_room(branch))

    def _segment_room(self, branch: Branch[PathT]) -> int:
        """Most tokens of the branch's next segment."""
        return min(self._config.segment_length, self._config.response_limit - branch.num_tokens)

    def _submit(self, branch: Branch[PathT], max_new_tokens: int) -> None:
        self._engine.submit(
            branch.path,
            max_new_tokens=max_new_tokens,
            sampling=self._config.sampling,
            stop_token_ids=sorted(self._rules.eos_token_ids),
            key=stable_key(*self._origin, "path", *branch.lineage),
        )
        self._running[id(branch.path)] = (branch.path, self)

    def _release_sources(self) -> None:
        """Close what only fallback could need: enough paths are under way."""
        for branch in self._finished:
            self._close(branch.path)
        self._finished.clear()
        if self._root is not None:
            self._close(self._root)
            self._root = None

    def _track(self, path: PathT) -> PathT:
        self._open[id(path)] = path
        return path

    def _close(self, path: PathT) -> None:
        del self._open[id(path)]
        self._engine.close(path)


Running = dict[int, tuple[PathT, PromptGrowth[PathT]]]
"""Requests that have not ended: the path and its tree, by the identity of the path."""
