"""Segment, RolloutTree and Trajectory: what a rollout is, without any engine.

    prompt (segment 0, not sampled)
      +-- 1 --+-- 3 (leaf)
      |       +-- 4 (leaf)
      +-- 2 ------ 5 (leaf)

Invariants: concatenating a path gives exactly the ids that the model saw (text is never
re-tokenised); sealed segments never change; `parent < id`; lists of a segment have equal length.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from itertools import accumulate, chain
from typing import Any, TypeVar

_T = TypeVar("_T")


class FinishReason(StrEnum):
    """Why a path stopped (TreePO, arXiv 2508.17445, section 2; order of the tests in stopping.py)."""

    FINISHED = "finished"
    """A complete answer (for example a closed box) was written, as the stop rule demands, or the
    environment said that the episode is over."""
    MAX_TURNS = "max_turns"
    """The path took as many environment steps as it may."""
    FORMAT = "format"
    """The model broke the protocol of its environment, or wrote what only the environment may write."""
    ENVIRONMENT_FAILED = "environment_failed"
    """The environment raised an error on this path."""
    ENVIRONMENT_TIMEOUT = "environment_timeout"
    """A step of the environment on this path took too long."""
    EOS = "eos"
    """The model ended the response without a complete answer."""
    MAX_TOKENS = "max_tokens"
    """The response reached its token limit."""
    MAX_SEGMENTS = "max_segments"
    """The path reached the maximal depth."""
    REPETITION = "repetition"
    """The newest segment repeats itself."""
    PRUNED = "pruned"
    """The branch policy gave the path up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Tokens between two decision points of a path; one node of a rollout tree; immutable."""

    id: int
    """Index in `RolloutTree.segments`."""
    parent: int | None
    """Id of the parent segment, None for the prompt."""
    token_ids: tuple[int, ...]
    """Only the tokens that this segment adds."""
    sampled: tuple[bool, ...]
    """True where the policy drew the token (False: prompt, observation)."""
    logprobs: tuple[float, ...]
    """Raw log-prob in nats of each token (full vocabulary, at the sampling temperature); 0 where not sampled."""
    behaviour_logprobs: tuple[float, ...]
    """Log-prob under the law the token was really drawn from (after top-p and the like); 0 where not sampled."""
    entropies: tuple[float, ...]
    """Entropy in nats of the raw law at each token; 0 where not sampled."""
    policy_version: int
    """Version of the weights that drew the tokens."""
    finish: FinishReason | None = None
    """Set when a path stopped at the end of this segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDraws:
    """The numbers of each drawn token of a segment, in nats; see the fields of `Segment`."""

    logprobs: tuple[float, ...]
    behaviour_logprobs: tuple[float, ...]
    entropies: tuple[float, ...]

    @property
    def length(self) -> int:
        """Number of tokens; -1 if the lists disagree."""
        lengths = {len(self.logprobs), len(self.behaviour_logprobs), len(self.entropies)}
        return lengths.pop() if len(lengths) == 1 else -1


@dataclass(slots=True, kw_only=True)
class RolloutTree:
    """All segments of one prompt."""

    prompt_id: str
    """Stable id of the prompt over epochs, ranks and restarts."""
    example: Mapping[str, Any]  # a data-set row: its columns are the user's
    """The data-set row of the prompt."""
    segments: list[Segment] = field(default_factory=list)
    """Segment 0 is the prompt."""
    leaves: list[int] = field(default_factory=list)
    """Ids of the segments at which a path stopped, in order of completion; exactly `width` of them."""
    facts: dict[int, Mapping[str, Any]] = field(default_factory=dict)  # named by the environment
    """For each leaf that acted in an environment: what that says about the episode."""
    num_fallback_paths: int = 0
    """Paths that were started by fallback rather than by forking."""
    leaves_before_fallback: int | None = None
    """Leaves that the tree had when fallback first acted; None: it never did."""

    def add_segment(
        self,
        *,
        parent: int | None,
        token_ids: Sequence[int],
        policy_version: int,
        draws: TokenDraws | None = None,
        finish: FinishReason | None = None,
    ) -> Segment:
        """Append a segment below `parent` and return it; a `finish` makes it a leaf.

        Args:
            parent: Id of an existing segment; None only for the prompt, the first segment.
            token_ids: The tokens that the segment adds, at least one.
            policy_version: Version of the weights that drew (or will read) the tokens.
            draws: Numbers of the draw of each token; None: not sampled (prompt, observation).
            finish: Why the path stopped at the end of this segment, None if it went on.
        """
        assert (parent is None) == (not self.segments), "only segment 0, the prompt, has no parent"
        assert parent is None or self.segments[parent].finish is None, f"segment {parent} is a leaf"
        assert token_ids, "a segment holds at least one token"
        zeros = (0.0,) * len(token_ids)
        numbers = draws or TokenDraws(logprobs=zeros, behaviour_logprobs=zeros, entropies=zeros)
        assert numbers.length == len(token_ids), "one log-prob and one entropy per token"
        segment = Segment(
            id=len(self.segments),
            parent=parent,
            token_ids=tuple(token_ids),
            sampled=(draws is not None,) * len(token_ids),
            logprobs=numbers.logprobs,
            behaviour_logprobs=numbers.behaviour_logprobs,
            entropies=numbers.entropies,
            policy_version=policy_version,
            finish=finish,
        )
        self.segments.append(segment)
        if finish is not None:
            self.leaves.append(segment.id)
        return segment

    def prune(self, segment_id: int) -> None:
        """End the path at its newest segment: the segment becomes a leaf (`FinishReason.PRUNED`)."""
        segment = self.segments[segment_id]
        assert segment.finish is None, f"segment {segment_id} is a leaf already"
        assert all(other.parent != segment_id for other in self.segments[segment_id:])
        self.segments[segment_id] = replace(segment, finish=FinishReason.PRUNED)
        self.leaves.append(segment_id)

    def path_of(self, segment_id: int) -> tuple[int, ...]:
        """Ids of the segments from the prompt down to `segment_id`, both included."""
        path: list[int] = []
        current: int | None = segment_id
        while current is not None:
            path.append(current)
            current = self.segments[current].parent
        return tuple(reversed(path))

    def prefix_ids(self, segment_id: int) -> tuple[int, ...]:
        """All token ids from the first of the prompt to the last of `segment_id`."""
        path = self.path_of(segment_id)
        return tuple(t for i in path for t in self.segments[i].token_ids)

    def child_counts(self) -> list[int]:
        """For each segment, the number of segments directly below it."""
        counts = [0] * len(self.segments)
        for segment in self.segments:
            if segment.parent is not None:
                counts[segment.parent] += 1
        return counts

    def trajectory(self, leaf: int) -> Trajectory:
        """The training row of one leaf.

        Raises:
            ValueError: `leaf` is not the id of a segment at which a path stopped.
        """
        finish = self.segments[leaf].finish
        if finish is None:
            raise ValueError(f"segment {leaf} is not a leaf; the leaves are {self.leaves}")
        path = self.path_of(leaf)
        parts = [self.segments[i] for i in path]
        ends = list(accumulate(len(part.token_ids) for part in parts))
        return Trajectory(
            prompt_id=self.prompt_id,
            leaf=leaf,
            path=path,
            token_ids=_joined(part.token_ids for part in parts),
            loss_mask=_joined(part.sampled for part in parts),
            logprobs=_joined(part.logprobs for part in parts),
            behaviour_logprobs=_joined(part.behaviour_logprobs for part in parts),
            entropies=_joined(part.entropies for part in parts),
            bounds=tuple(zip([0, *ends], ends, strict=False)),
            finish=finish,
            facts=self.facts.get(leaf, {}),
        )

    def trajectories(self) -> list[Trajectory]:
        """The training rows of all leaves, in the order of `leaves`."""
        return [self.trajectory(leaf) for leaf in self.leaves]

    @property
    def num_distinct_tokens(self) -> int:
        """Tokens of all segments, each counted once, prompt included."""
        return sum(len(segment.token_ids) for segment in self.segments)

    @property
    def num_sampled_tokens(self) -> int:
        """Tokens that the policy drew, each counted once."""
        return sum(sum(segment.sampled) for segment in self.segments)

    @property
    def num_trajectory_tokens(self) -> int:
        """Tokens of all training rows: a shared token counts once per leaf below it."""
        lengths: list[int] = []
        for segment in self.segments:
            before = 0 if segment.parent is None else lengths[segment.parent]
            lengths.append(before + len(segment.token_ids))
        return sum(lengths[leaf] for leaf in self.leaves)

    @property
    def sharing_ratio(self) -> float:
        """Share of the row tokens that sharing saves: 1 - distinct / trajectory, 0 without leaves.

        Example: a prompt of 6 tokens and segments A, B, A1, A2 of 4: 1 - 22/38 = 0.421053.
        """
        total = self.num_trajectory_tokens
        return 1.0 - self.num_distinct_tokens / total if total else 0.0

    def leaf_weights(self) -> tuple[float, ...]:
        """Inverse-fork weight of each leaf, in the order of `leaves`; they sum to 1.

        TreePO gives every leaf the weight 1 / width, which favours long responses: a path that
        stops early hands its budget to paths that live on. Here a leaf weighs the product over its
        path of 1 / (number of children of the parent), so that the weighted sum of the rewards is
        the bottom-up mean of child means.

        Example: P forks into A and B, A into A1 and A2: leaves A1, A2, B weigh 1/4, 1/4, 1/2.
        """
        counts = self.child_counts()
        weights: list[float] = []
        for segment in self.segments:
            parent = segment.parent
            weights.append(1.0 if parent is None else weights[parent] / counts[parent])
        return tuple(weights[leaf] for leaf in self.leaves)

    def leaf_groups(self) -> dict[int, tuple[int, ...]]:
        """For each segment with leaves below it: positions of those leaves in `leaves`.

        The group of segment 0 is the whole prompt; the group of a leaf is the leaf alone. The
        groups G_j of TreePO (arXiv 2508.17445, eq. 5) for one leaf are `groups[i]` for i in its
        `Trajectory.path` without the last id.
        """
        groups: dict[int, list[int]] = {}
        for position, leaf in enumerate(self.leaves):
            for segment_id in self.path_of(leaf):
                groups.setdefault(segment_id, []).append(position)
        return {segment_id: tuple(group) for segment_id, group in sorted(groups.items())}

    def to_dict(self) -> dict[str, Any]:  # JSON has no static type
        """The tree as JSON-able values (as far as the columns of `example` are)."""
        facts = {str(leaf): dict(facts) for leaf, facts in self.facts.items()}
        return {
            "prompt_id": self.prompt_id,
            "example": dict(self.example),
            **({"facts": facts} if facts else {}),
            "segments": [asdict(segment) for segment in self.segments],
            "leaves": list(self.leaves),
            "num_fallback_paths": self.num_fallback_paths,
            "leaves_before_fallback": self.leaves_before_fallback,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RolloutTree:  # JSON has no static type
        """The tree that `to_dict` wrote, also after a round trip through JSON."""
        return cls(
            prompt_id=values["prompt_id"],
            example=dict(values["example"]),
            facts={int(leaf): facts for leaf, facts in values.get("facts", {}).items()},
            segments=[_segment_from_dict(row) for row in values["segments"]],
            leaves=list(values["leaves"]),
            num_fallback_paths=values["num_fallback_paths"],
            leaves_before_fallback=values.get("leaves_before_fallback"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """Root-to-leaf tokens with masks and log-probs, as training data.

    Example: prompt of 6 tokens, segments A and A1 of 4 tokens: `bounds` is
    ((0, 6), (6, 10), (10, 14)), `loss_mask` is False x6, True x8.
    """

    prompt_id: str
    leaf: int
    """Segment id of the leaf."""
    path: tuple[int, ...]
    """Segment ids from the prompt to the leaf."""
    token_ids: tuple[int, ...]
    """Prompt and response."""
    loss_mask: tuple[bool, ...]
    """True where the loss is taken; implies that the token was sampled."""
    logprobs: tuple[float, ...]
    behaviour_logprobs: tuple[float, ...]
    entropies: tuple[float, ...]
    bounds: tuple[tuple[int, int], ...]
    """Half-open token ranges of the segments of `path`; they tile the trajectory."""
    finish: FinishReason
    facts: Mapping[str, Any] = field(default_factory=dict)  # named by the environment
    """What the environment says about the episode; empty without environment."""


def _joined(parts: Iterable[tuple[_T, ...]]) -> tuple[_T, ...]:
    return tuple(chain.from_iterable(parts))


def _segment_from_dict(row: Mapping[str, Any]) -> Segment:  # JSON has no static type
    finish = row["finish"]
    return Segment(
        id=row["id"],
        parent=row["parent"],
        token_ids=tuple(row["token_ids"]),
        sampled=tuple(row["sampled"]),
        logprobs=tuple(row["logprobs"]),
        behaviour_logprobs=tuple(row["behaviour_logprobs"]),
        entropies=tuple(row["entropies"]),
        policy_version=row["policy_version"],
        finish=None if finish is None else FinishReason(finish),
    )
