"""Numbers about grown trees: sums first, so that several ranks can add them, then metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from rollout.tree import FinishReason, RolloutTree

_OF_ENVIRONMENTS = (
    FinishReason.MAX_TURNS,
    FinishReason.FORMAT,
    FinishReason.ENVIRONMENT_FAILED,
    FinishReason.ENVIRONMENT_TIMEOUT,
)
"""Reported only when paths acted in environments."""


@dataclass(slots=True, kw_only=True)
class GrowthStats:
    """Sums over prompts and leaves; `a + b` is the statistics of both sets of trees."""

    num_prompts: int = 0
    num_requests: int = 0
    """Segments that the policy wrote; one engine request each."""
    sampled_tokens: int = 0
    """Tokens drawn, each counted once."""
    distinct_tokens: int = 0
    """Sampled tokens and prompt tokens, each counted once."""
    trajectory_tokens: int = 0
    """Tokens of all training rows, prompts included."""
    response_tokens: int = 0
    """Tokens of all responses: every leaf counts 1."""
    weighted_response_tokens: float = 0.0
    """Sum over prompts of the inverse-fork weighted mean response length."""
    environment_leaves: int = 0
    """Leaves whose path acted in an environment."""
    turns: int = 0
    """Environment steps of all leaves: a shared step counts once per leaf below it."""
    observation_tokens: int = 0
    """Tokens that environments wrote, each counted once."""
    fallback_paths: int = 0
    prompts_with_fallback: int = 0
    leaves_before_fallback: int = 0
    """Leaves that forking alone had produced when fallback first acted, all of them without one."""
    counted_groups: int = 0
    """Sum over leaves of |J|: ancestor groups, the prompt's included, that TreePO averages over."""
    finish_counts: Counter[FinishReason] = field(default_factory=Counter)
    """Leaves per finish reason."""
    depth_counts: Counter[int] = field(default_factory=Counter)
    """Leaves per number of segments that the policy wrote."""
    length_counts: Counter[int] = field(default_factory=Counter)
    """Leaves per response length in tokens."""

    def __add__(self, other: GrowthStats) -> GrowthStats:
        return GrowthStats(
            **{name: getattr(self, name) + getattr(other, name) for name in self.__slots__}
        )

    @property
    def num_leaves(self) -> int:
        """Training rows."""
        return self.finish_counts.total()

    def metrics(self) -> dict[str, float]:
        """The numbers to log; all are 0 without trees.

        * rollout/prompts, rollout/leaves, rollout/requests: counts.
        * rollout/sampled_tokens, rollout/distinct_tokens, rollout/trajectory_tokens: counts; see
          the fields.
        * rollout/sharing_ratio: 1 - distinct / trajectory; share of row tokens saved by the tree.
        * rollout/requests_per_leaf: w independent one-segment samples have 1.
        * rollout/leaves_per_prompt: the width.
        * rollout/response_tokens_mean, _min, _max: over leaves, each counted once.
        * rollout/response_tokens_inverse_fork_mean: the same with leaf weights that undo the
          over-representation of long responses (`RolloutTree.leaf_weights`), mean over prompts.
        * rollout/depth_mean, _max: segments per response.
        * rollout/fallback_prompt_frac, rollout/fallback_paths_per_prompt: how often forking alone
          did not reach the width.
        * rollout/leaves_before_fallback: leaves per prompt when fallback first acted; the width
          for prompts without one.
        * rollout/groups_per_leaf: mean |J|, the distinct ancestor groups of at least two leaves
          (the prompt's always counts) that TreePO's advantage averages over; 1 for flat sampling.
        * rollout/finish_<reason>_frac: share of leaves per `FinishReason`; those of environments
          only if there is one.
        * rollout/turns_mean, rollout/observation_tokens: only with environments.
        """
        metrics = {
            "prompts": self.num_prompts,
            "leaves": self.num_leaves,
            "requests": self.num_requests,
            "sampled_tokens": self.sampled_tokens,
            "distinct_tokens": self.distinct_tokens,
            "trajectory_tokens": self.trajectory_tokens,
            "sharing_ratio": _ratio(
                self.trajectory_tokens - self.distinct_tokens, self.trajectory_tokens
            ),
            "requests_per_leaf": _ratio(self.num_requests, self.num_leaves),
            "leaves_per_prompt": _ratio(self.num_leaves, self.num_prompts),
            "response_tokens_mean": _ratio(self.response_tokens, self.num_leaves),
            "response_tokens_min": min(self.length_counts, default=0),
            "response_tokens_max": max(self.length_counts, default=0),
            "response_tokens_inverse_fork_mean": _ratio(
                self.weighted_response_tokens, self.num_prompts
            ),
            "depth_mean": _ratio(
                sum(depth * num for depth, num in self.depth_counts.items()), self.num_leaves
            ),
            "depth_max": max(self.depth_counts, default=0),
            "fallback_prompt_frac": _ratio(self.prompts_with_fallback, self.num_prompts),
            "fallback_paths_per_prompt": _ratio(self.fallback_paths, self.num_prompts),
            "leaves_before_fallback": _ratio(self.leaves_before_fallback, self.num_prompts),
            "groups_per_leaf": _ratio(self.counted_groups, self.num_leaves),
        }
        if self.environment_leaves:
            metrics["turns_mean"] = _ratio(self.turns, self.environment_leaves)
            metrics["observation_tokens"] = self.observation_tokens
        for reason in FinishReason:
            if self.environment_leaves or reason not in _OF_ENVIRONMENTS:
                share = _ratio(self.finish_counts[reason], self.num_leaves)
                metrics[f"finish_{reason}_frac"] = share
        return {f"rollout/{name}": float(value) for name, value in metrics.items()}


def growth_stats(trees: Iterable[RolloutTree]) -> GrowthStats:
    """Statistics of finished trees."""
    return sum((_tree_stats(tree) for tree in trees), GrowthStats())


def _tree_stats(tree: RolloutTree) -> GrowthStats:
    prompt_tokens = len(tree.segments[0].token_ids)
    paths = [tree.path_of(leaf) for leaf in tree.leaves]
    lengths = [sum(len(tree.segments[i].token_ids) for i in path[1:]) for path in paths]
    return GrowthStats(
        num_prompts=1,
        num_requests=sum(any(segment.sampled) for segment in tree.segments),
        sampled_tokens=tree.num_sampled_tokens,
        distinct_tokens=tree.num_distinct_tokens,
        trajectory_tokens=sum(lengths) + prompt_tokens * len(lengths),
        response_tokens=sum(lengths),
        weighted_response_tokens=sum(
            weight * length for weight, length in zip(tree.leaf_weights(), lengths, strict=True)
        ),
        environment_leaves=len(tree.facts),
        turns=sum(facts.get("turns", 0) for facts in tree.facts.values()),
        observation_tokens=sum(
            len(segment.token_ids) for segment in tree.segments[1:] if not segment.sampled[0]
        ),
        fallback_paths=tree.num_fallback_paths,
        prompts_with_fallback=int(tree.num_fallback_paths > 0),
        leaves_before_fallback=(
            len(paths) if tree.leaves_before_fallback is None else tree.leaves_before_fallback
        ),
        counted_groups=_counted_groups(tree, paths),
        finish_counts=Counter(s.finish for s in tree.segments if s.finish is not None),
        depth_counts=Counter(sum(tree.segments[i].sampled[0] for i in path) for path in paths),
        length_counts=Counter(lengths),
    )


def _counted_groups(tree: RolloutTree, paths: Iterable[tuple[int, ...]]) -> int:
    sizes = {node: len(group) for node, group in tree.leaf_groups().items()}
    # groups along a path are nested: equal sizes mean equal groups
    return sum(1 + len({sizes[i] for i in path} - {1, sizes[0]}) for path in paths)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 0.0
