"""Segment, RolloutTree and Trajectory: what a rollout is, without any engine.

    prompt (segment 0, not sampled)
      +-- 1 --+-- 3 (leaf)
      |       +-- 4 (leaf)
      +-- 2 ------ 5 (leaf)

Invariants: concatenating a path gives exactly the ids that the model saw (text is never
re-tokenised); sealed segments never change; `parent < id`; lists of a segment have equal length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class FinishReason(StrEnum):
    """Why a path stopped (TreePO, arXiv 2508.17445, section 2; order of the tests in stopping.py)."""

    FINISHED = "finished"
    """A complete answer (for example a closed box) was written, as the stop rule demands."""
    EOS = "eos"
    """The model ended the response without a complete answer."""
    MAX_TOKENS = "max_tokens"
    """The response reached its token limit."""
    MAX_SEGMENTS = "max_segments"
    """The path reached the maximal depth."""
    REPETITION = "repetition"
    """The newest segment repeats itself."""


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
    num_fallback_paths: int = 0
    """Paths that were started by fallback rather than by forking."""


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
