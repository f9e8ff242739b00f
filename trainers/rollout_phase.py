"""From data-set rows to rollout trees to the columns TRL wants: no TRL internals here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from rollout.growth import PromptTask
from rollout.tree import RolloutTree, Trajectory

Row = Mapping[str, Any]  # one row of the data set: its columns are the user's


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineUse:
    """What the rollouts of one rank cost; `a + b` is the cost of both."""

    kv_bytes: int = 0
    """Largest KV at any moment."""
    computed: int = 0
    """Tokens whose KV was computed."""
    sampled: int = 0
    """Tokens drawn, each counted once."""
    seconds: float = 0.0

    def __add__(self, other: EngineUse) -> EngineUse:
        return EngineUse(
            kv_bytes=max(self.kv_bytes, other.kv_bytes),
            computed=self.computed + other.computed,
            sampled=self.sampled + other.sampled,
            seconds=self.seconds + other.seconds,
        )


def use_metrics(uses: Sequence[EngineUse]) -> dict[str, float]:
    """The numbers to log; a step lasts as long as its slowest rank.

    * time/rollout_s: seconds of the slowest rank.
    * rollout/tokens_per_s: tokens drawn on all ranks / those seconds.
    * rollout/generated_tokens: tokens drawn on all ranks, also for prompts that dynamic sampling
      dropped (rollout/sampled_tokens counts the trees that are trained on).
    * rollout/computed_tokens: tokens whose KV was computed, all ranks.
    * kv/peak_bytes: largest KV of a rank.
    """
    slowest = max(use.seconds for use in uses)
    generated = sum(use.sampled for use in uses)
    return {
        "time/rollout_s": slowest,
        "rollout/tokens_per_s": generated / slowest,
        "rollout/generated_tokens": float(generated),
        "rollout/computed_tokens": float(sum(use.computed for use in uses)),
        "kv/peak_bytes": float(max(use.kv_bytes for use in uses)),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafRow:
    """One training row: a leaf of a rollout tree."""

    tree: RolloutTree
    trajectory: Trajectory

    @property
    def prompt_ids(self) -> list[int]:
        """Token ids of the prompt."""
        return list(self.trajectory.token_ids[: self.trajectory.bounds[0][1]])

    @property
    def completion_ids(self) -> list[int]:
        """Token ids of the response, at least one."""
        return list(self.trajectory.token_ids[self.trajectory.bounds[0][1] :])

    @property
    def logprobs(self) -> list[float]:
        """Raw log-prob of each response token, nats."""
        return list(self.trajectory.logprobs[self.trajectory.bounds[0][1] :])

    @property
    def sampled(self) -> list[int]:
        """For each response token: 1 if the policy drew it, 0 if it is an observation."""
        return [int(drawn) for drawn in self.trajectory.loss_mask[self.trajectory.bounds[0][1] :]]

    @property
    def num_segments(self) -> int:
        """Segments that the policy wrote."""
        return sum(self.tree.segments[i].sampled[0] for i in self.trajectory.path)


def prompt_groups(rows: Sequence[Row], group_size: int) -> list[Row]:
    """First row of each prompt group; the rows of a group stand next to each other.

    Raises:
        ValueError: a group is split or mixed, which the batch arithmetic should have refused.
    """
    if len(rows) % group_size:
        raise ValueError(f"{len(rows)} rows are not a multiple of the group size {group_size}")
    groups = [rows[i : i + group_size] for i in range(0, len(rows), group_size)]
    for group in groups:
        ids = {row["prompt_id"] for row in group}
        if len(ids) != 1:
            raise ValueError(f"a prompt group of {group_size} rows mixes the prompts {sorted(ids)}")
    return [group[0] for group in groups]


def prompt_tasks(
    groups: Sequence[Row], tokenize: Callable[[list[Any]], Sequence[Sequence[int]]]
) -> list[PromptTask]:
    """Tokenised prompts of the groups; `tokenize` maps texts or message lists to token ids."""
    token_ids = tokenize([row["prompt"] for row in groups])
    return [
        PromptTask(prompt_id=row["prompt_id"], token_ids=tuple(ids), example=row)
        for row, ids in zip(groups, token_ids, strict=True)
    ]


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[Any],  # all texts, or all message lists
) -> list[list[int]]:
    """Token ids of prompts: texts as they are, conversations through the chat template."""
    if not prompts:
        return []
    if isinstance(prompts[0], str):
        encoded = tokenizer(text=prompts)
    else:
        encoded = tokenizer.apply_chat_template(
            prompts, add_generation_prompt=True, tokenize=True, return_dict=True
        )
    return list(encoded["input_ids"])


def text_of(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """Text of token ids without special tokens: what stop rules and rewards see."""
    return str(tokenizer.decode(list(token_ids), skip_special_tokens=True))


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text from outside: special tokens are neither added nor read in it."""
    encoded = tokenizer(text=text, add_special_tokens=False, split_special_tokens=True)
    return list(encoded["input_ids"])


def leaf_rows(trees: Sequence[RolloutTree]) -> list[LeafRow]:
    """All leaves of all trees, tree by tree, in the order in which they were completed."""
    return [LeafRow(tree=tree, trajectory=leaf) for tree in trees for leaf in tree.trajectories()]


def columns(rows: Sequence[LeafRow]) -> dict[str, list[Any]]:
    """The dictionary of TRL's rollout function, one entry per row; extras reach the rewards.

    `env_mask` is there only if environments wrote tokens, `episode` (the facts that the environment
    states about each row) only if paths acted in one.
    """
    values: dict[str, list[Any]] = {
        "prompt_ids": [row.prompt_ids for row in rows],
        "completion_ids": [row.completion_ids for row in rows],
        "logprobs": [row.logprobs for row in rows],
        "finish": [str(row.trajectory.finish) for row in rows],
        "num_segments": [row.num_segments for row in rows],
    }
    if any(0 in row.sampled for row in rows):
        values["env_mask"] = [row.sampled for row in rows]
    if any(row.trajectory.facts for row in rows):
        values["episode"] = [dict(row.trajectory.facts) for row in rows]
    return values
