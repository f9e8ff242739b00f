"""The growth of one prompt's tree whose paths act in an environment.

    request in pieces --> action complete? --yes--> cut behind it --> environment step (thread)
          ^    |no: next piece, until EOS,                                  |
          |    `-- the segment is full, or the response is --------.        v
          +---- forks, as without environment <---- level over <---+--- observation appended

* A segment ends with the token that completes an action (or a tag that is forbidden to the model), as
  if nothing had been drawn behind it: requests come in small pieces, and what the last piece holds
  beyond that token is dropped with the engine path that holds it. The uniform numbers depend on key
  and position only, and whether to stop on the tokens before, so neither the piece length nor the
  drawn and dropped tokens change the law of what stays.
* An observation is tokenised once and appended as a segment that is not sampled. It follows its action
  inside one level, so forks and fallback start behind it, never inside or before it.
* Moments (the environment's snapshot behind a segment) are values; branches share them and continue
  from copies.
* The level waits for the steps of its own paths, other prompts do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any

from inference.requests import DecodedSegment, StopCause
from rollout.config import PromptTask
from rollout.envs.base import Environment, Example, Facts, Observation, TurnFormat
from rollout.envs.config import EnvConfig
from rollout.envs.step_pool import StepOutcome, StepPool
from rollout.envs.turn_text import ObservationEncoder, TurnEnd, find_turn_end
from rollout.prompt_growth import Branch, GrowthRules, PathT, PromptGrowth, Running, SegmentEngine
from rollout.tree import FinishReason, Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvRules:
    """What all prompts of a call have in common about their environments."""

    config: EnvConfig
    turns: TurnFormat
    encoder: ObservationEncoder
    pool: StepPool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """The episode behind a segment."""

    state: object
    """Snapshot of the environment."""
    num_turns: int = 0
    facts: Facts = field(default_factory=dict)
    turn_ids: tuple[int, ...] = ()
    """Tokens of the turn that has begun but not ended."""


@dataclass(slots=True)
class _Turn:
    """What the running segment of a path has brought so far."""

    pieces: list[DecodedSegment] = field(default_factory=list)
    end: TurnEnd | None = None
    is_stepping: bool = False
    """True while the environment works on it."""
    outcome: StepOutcome | None = None
    observation_ids: tuple[int, ...] = ()
    """What is appended behind the segment."""

    @property
    def num_tokens(self) -> int:
        return sum(len(piece.token_ids) for piece in self.pieces)


class AgentGrowth(PromptGrowth[PathT]):
    """A `PromptGrowth` with an environment; feed it with outcomes as well.

    Args of the constructor: as of `PromptGrowth`, and `env`.
    """

    def __init__(
        self,
        engine: SegmentEngine[PathT],
        task: PromptTask,
        *,
        rules: GrowthRules,
        origin: tuple[int | str, ...],
        running: Running[PathT],
        env: EnvRules,
    ) -> None:
        super().__init__(engine, task, rules=rules, origin=origin, running=running)
        self._env = env
        self._moments: dict[int, _Moment] = {}
        self._turns: dict[tuple[int, ...], _Turn] = {}
        self._reset_failure: StepOutcome | None = None

    def start(self) -> None:
        """Open the prompt and reset its environment; the first level follows the reset."""
        self._open_prompt()
        self._env.pool.submit(partial(_reset, example=self.tree.example), self._begin)

    def receive(self, path: PathT, decoded: DecodedSegment) -> None:
        """Take a piece; ask for the next one, or let the environment act on the turn."""
        branch = self._branch_of(path)
        turn = self._turns.setdefault(branch.lineage, _Turn())
        before = self._moments[branch.tip].turn_ids
        num_seen = turn.num_tokens
        turn.pieces.append(decoded)
        turn.end = find_turn_end(
            before,
            _tokens(turn.pieces),
            num_seen=num_seen,
            turns=self._env.turns,
            decode=self._rules.decode,
        )
        if turn.end is None and decoded.cause is StopCause.LENGTH and self._room(branch, turn):
            self._submit(branch, self._room(branch, turn))
            return
        self._seal(branch, turn)
        self._advance()

    # ---------------------------------------------------------------- start

    def _begin(self, outcome: StepOutcome) -> None:
        """Submit the first level behind the first observation, or one token per leaf if there is none."""
        ids = self._first_ids(outcome)
        if ids is None:
            self._moments[0] = _Moment(state=None)
            self._fork_root(self._config.width)
        else:
            self._moments[0] = _Moment(state=outcome.state, facts=outcome.facts)
            self._append_first(ids)
            self._fork_root(self._num_first)
        self._submit_level()

    def _first_ids(self, outcome: StepOutcome) -> tuple[int, ...] | None:
        """Tokens of the first observation; None if the episode cannot begin."""
        observation = outcome.observation
        if outcome.failure is None and observation is None:
            return ()
        error = outcome.error
        if observation is not None:
            ids = self._env.encoder.encode(observation.text)
            if not observation.done and len(ids) < self._config.response_limit:
                return ids
            error = "reset ended the episode" if observation.done else "no room behind reset"
        failure = outcome.failure or FinishReason.ENVIRONMENT_FAILED
        self._reset_failure = StepOutcome(failure=failure, error=error)
        return None

    def _append_first(self, ids: tuple[int, ...]) -> None:
        assert self._root is not None, "the prompt is open until its leaves are covered"
        if ids:
            self._root_tip = self._add_observation(self._root, 0, ids)
            self._root_tokens = len(ids)
            self._moments[self._root_tip] = self._moments[0]

    # ---------------------------------------------------------------- a turn

    def _room(self, branch: Branch[PathT], turn: _Turn) -> int:
        """Tokens of the next piece, 0 when the segment is full.

        One token is enough where the episode did not begin.
        """
        full = 1 if self._reset_failure else super()._segment_room(branch)
        return min(full - turn.num_tokens, self._env.config.piece_tokens)

    def _segment_room(self, branch: Branch[PathT]) -> int:
        """Tokens of the first piece."""
        return self._room(branch, _Turn())

    def _seal(self, branch: Branch[PathT], turn: _Turn) -> None:
        """End the segment of a path: cut it, and start the environment step if there is an action."""
        num_kept = turn.num_tokens if turn.end is None else turn.end.num_tokens
        branch.decoded = _joined(turn.pieces, num_kept)
        if num_kept < turn.num_tokens:
            length = len(self._prompt_ids) + branch.num_tokens + num_kept
            (kept,) = self._engine.fork(branch.path, 1, length=length)
            self._close(branch.path)
            branch.path = self._track(kept)
        if self._reset_failure is not None:
            turn.outcome = self._reset_failure
        elif turn.end is not None and turn.end.action is not None:
            turn.is_stepping = True
            state = self._moments[branch.tip].state
            job = partial(_step, state=state, action=turn.end.action)
            self._env.pool.submit(job, partial(self._take_outcome, turn))

    def _take_outcome(self, turn: _Turn, outcome: StepOutcome) -> None:
        turn.outcome, turn.is_stepping = outcome, False
        self._advance()

    def _is_level_over(self) -> bool:
        is_stepping = any(turn.is_stepping for turn in self._turns.values())
        return not is_stepping and super()._is_level_over()

    # ---------------------------------------------------------------- into the tree

    def _retire(self, branch: Branch[PathT], leaf: Segment) -> None:
        """Keep what the environment says about the episode."""
        turn = self._turns.pop(branch.lineage)
        self.tree.facts[leaf.id] = _leaf_facts(self._moment_behind(leaf, turn), turn.outcome)
        super()._retire(branch, leaf)

    def _deepen(self, branch: Branch[PathT], num: int) -> None:
        """Append the observation, remember the moment behind it, and fork there."""
        turn = self._turns.pop(branch.lineage)
        moment = self._moment_behind(self.tree.segments[branch.tip], turn)
        if turn.observation_ids:
            branch.tip = self._add_observation(branch.path, branch.tip, turn.observation_ids)
            branch.num_tokens += len(turn.observation_ids)
        self._moments[branch.tip] = moment
        super()._deepen(branch, num)

    def _moment_behind(self, segment: Segment, turn: _Turn) -> _Moment:
        """The episode behind a segment that was or was not followed by a step."""
        assert segment.parent is not None, "the prompt is no turn"
        before, outcome = self._moments[segment.parent], turn.outcome
        if outcome is None or outcome.failure is not None:
            return replace(before, turn_ids=before.turn_ids + segment.token_ids)
        return _Moment(state=outcome.state, num_turns=before.num_turns + 1, facts=outcome.facts)

    def _add_observation(self, path: PathT, parent: int, ids: tuple[int, ...]) -> int:
        """Id of the new segment; its text is empty, for stop tests are about the model's own text."""
        self._engine.append(path, ids)
        version = self._engine.policy_version
        segment = self.tree.add_segment(parent=parent, token_ids=ids, policy_version=version)
        self._texts.append("")
        return segment.id

    def _finish(self, branch: Branch[PathT], decoded: DecodedSegment) -> FinishReason | None:
        """Protocol and environment come first, then the usual tests, then room for the observation."""
        turn = self._turns[branch.lineage]
        usual = super()._finish(branch, decoded)
        if turn.outcome is None:
            return usual if turn.end is None else FinishReason.FORMAT
        return _finish_of(turn.outcome) or usual or self._limit(branch, turn)

    def _limit(self, branch: Branch[PathT], turn: _Turn) -> FinishReason | None:
        """Why the path cannot read the observation; if it can, its tokens are now in `turn`."""
        num_turns = self._moments[branch.tip].num_turns + 1
        if num_turns >= self._env.config.max_turns:
            return FinishReason.MAX_TURNS
        assert turn.outcome is not None and turn.outcome.observation is not None
        ids = self._env.encoder.encode(turn.outcome.observation.text)
        if branch.num_tokens + len(ids) >= self._config.response_limit:
            return FinishReason.MAX_TOKENS
        turn.observation_ids = ids
        return None


def _reset(environment: Environment, *, example: Example) -> tuple[Observation | None, object]:
    observation = environment.reset(example)
    return observation, environment.snapshot()


def _step(environment: Environment, *, state: object, action: str) -> tuple[Observation, object]:
    environment.restore(state)
    observation = environment.step(action)
    if not isinstance(observation, Observation):
        raise TypeError(f"step returned {type(observation).__name__}, not an Observation")
    return observation, environment.snapshot()


def _finish_of(outcome: StepOutcome) -> FinishReason | None:
    """Why the environment ends the path, None if it goes on."""
    if outcome.failure is not None:
        return outcome.failure
    assert outcome.observation is not None, "a step that did not fail has an observation"
    if outcome.observation.broke_format:
        return FinishReason.FORMAT
    return FinishReason.FINISHED if outcome.observation.done else None


def _leaf_facts(
    moment: _Moment, outcome: StepOutcome | None
) -> Mapping[str, Any]:  # the environment's own, JSON-able
    facts = {**moment.facts, "turns": moment.num_turns}
    return {**facts, "error": outcome.error} if outcome is not None and outcome.error else facts


def _tokens(pieces: Sequence[DecodedSegment]) -> list[int]:
    return list(chain.from_iterable(piece.token_ids for piece in pieces))


def _joined(pieces: Sequence[DecodedSegment], length: int) -> DecodedSegment:
    """The first `length` tokens of consecutive pieces as one segment."""

    def first(name: str) -> tuple[Any, ...]:  # ints or floats
        return tuple(chain.from_iterable(getattr(piece, name) for piece in pieces))[:length]

    return DecodedSegment(
        token_ids=first("token_ids"),
        logprobs=first("logprobs"),
        behaviour_logprobs=first("behaviour_logprobs"),
        entropies=first("entropies"),
        cause=pieces[-1].cause,
        policy_version=pieces[-1].policy_version,
    )
