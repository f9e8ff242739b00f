"""Prompts: embedded tasks, local files, hub data sets; checked before a model is loaded.

Every row has `prompt` (text, or messages when `template: chat`), `prompt_id` (stable over epochs,
ranks and restarts: data set and row id, else a hash of data set and prompt) and `answer`, plus the
columns that it came with (rewards may read them).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from trainers.data_sources import embedded_rows, file_rows, hub_rows, is_file
from trainers.tasks.base import EMBEDDED, Row, Split
from trainers.tasks.chain_sums import ChainSumsConfig

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class DataConfig:
    """Section `data` of a recipe."""

    train: str
    """An embedded task (chain_sums, office_sql, office_agent, corner_shop), a file (.jsonl, .jsonl.gz,
    .json with one row a line, .parquet) or a hub id."""
    heldout: str | None = None
    """The same for evaluation; null takes heldout_size rows off the end of a shuffled train."""
    name: str | None = None
    """Configuration of a hub data set."""
    split: str = "train"
    """Split of a hub data set used for training."""
    heldout_split: str = "test"
    """Split of a hub data set used for evaluation."""
    heldout_size: int = 0
    """Rows taken off train for evaluation when heldout is null; 0 = none."""
    prompt_column: str = "prompt"
    """Column with the question: text, or a list of messages."""
    answer_column: str = "answer"
    """Column with the reference; it is also available as `answer`."""
    id_column: str | None = "id"
    """Column with a row id; where it is null or absent, ids are hashes of the prompt."""
    template: Literal["plain", "chat"] = "plain"
    """plain: the text as it is; chat: one user message, through the tokenizer's chat template."""
    system_prompt: str | None = None
    """System message of the chat template."""
    max_prompt_tokens: int | None = None
    """Longer prompts are dropped, and counted in the log; null = keep all."""
    limit: int | None = None
    """Use only the first so many training rows; null = all."""
    seed: int = 0
    """Seed of the split that heldout_size makes."""
    chain_sums: ChainSumsConfig = field(default_factory=ChainSumsConfig)
    """Sizes of the embedded task chain_sums."""

    def __post_init__(self) -> None:
        """Check ranges and combinations."""
        if self.system_prompt is not None and self.template != "chat":
            raise ValueError("data.system_prompt has no effect with data.template=plain; use chat")
        if self.heldout_size and self.heldout is not None:
            raise ValueError("data.heldout_size has no effect when data.heldout is given; drop one")
        if self.heldout_size < 0:
            raise ValueError(f"data.heldout_size={self.heldout_size} is negative; 0 = none")
        for name in ("max_prompt_tokens", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"data.{name}={value} must be at least 1; null = no limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptData:
    """What a run trains and is evaluated on."""

    train: Dataset
    heldout: Dataset | None
    num_dropped: int
    """Rows whose prompt was longer than max_prompt_tokens."""
    longest_prompt_tokens: int

    def describe(self) -> str:
        """Sizes as aligned lines."""
        heldout = 0 if self.heldout is None else len(self.heldout)
        lines = {
            "training prompts": f"{len(self.train)}",
            "held-out prompts": f"{heldout}",
            "longest prompt": f"{self.longest_prompt_tokens} tokens",
        }
        if self.num_dropped:
            lines["dropped, too long"] = f"{self.num_dropped}"
        return "\n".join(f"{name:<27}{value}" for name, value in lines.items())


def load_prompts(config: DataConfig, tokenizer: PreTrainedTokenizerBase) -> PromptData:
    """Read, check and format both sets.

    Raises:
        ValueError: a file, a column or every row is missing, ids repeat, or the sets overlap.
    """
    if config.template == "chat" and tokenizer.chat_template is None:
        raise ValueError(
            "template=chat, but the tokenizer has no chat template; use template: plain"
        )
    train = _rows(config, config.train, config.split, "train")[: config.limit]
    heldout = _heldout_rows(config)
    if config.heldout_size:
        train, heldout = _split_off(train, config)
    _check_unique(train, config.train)
    _check_disjoint(train, heldout)
    return _fitting(train, heldout, config.max_prompt_tokens, tokenizer)


def _heldout_rows(config: DataConfig) -> list[Row]:
    if config.heldout is not None:
        return _rows(config, config.heldout, config.heldout_split, "heldout")
    if config.train in EMBEDDED and not config.heldout_size:
        return _rows(config, config.train, "", "heldout")
    return []


def _rows(config: DataConfig, source: str, hub_split: str, part: Split) -> list[Row]:
    """All rows of a source in the common format."""
    if source in EMBEDDED:
        raw = embedded_rows(source, config.chain_sums, part)
    elif is_file(source):
        raw = file_rows(Path(source).expanduser())
    else:
        raw = hub_rows(source, config.name, hub_split)
    if not raw:
        raise ValueError(f"{source} has no rows")
    return [_formatted(row, config, source, number) for number, row in enumerate(raw, start=1)]


def _fitting(
    train: list[Row], heldout: list[Row], limit: int | None, tokenizer: PreTrainedTokenizerBase
) -> PromptData:
    """Drop the prompts with more than `limit` tokens."""
    lengths = _prompt_lengths([*train, *heldout], tokenizer)
    longest = max(lengths) if limit is None else limit
    fits = [length <= longest for length in lengths]
    kept = [row for row, fit in zip(train, fits, strict=False) if fit]
    asked = [row for row, fit in zip(heldout, fits[len(train) :], strict=True) if fit]
    if not kept:
        raise ValueError(
            f"no training prompt has at most max_prompt_tokens={longest} tokens; the shortest has "
            f"{min(lengths[: len(train)])}"
        )
    num_dropped = fits.count(False)
    if num_dropped:
        logger.info("%d prompts of more than %d tokens dropped", num_dropped, longest)
    return PromptData(
        train=Dataset.from_list(kept),
        heldout=Dataset.from_list(asked) if asked else None,
        num_dropped=num_dropped,
        longest_prompt_tokens=max(n for n, fit in zip(lengths, fits, strict=True) if fit),
    )


def _formatted(row: Row, config: DataConfig, source: str, number: int) -> Row:
    for column in (config.prompt_column, config.answer_column):
        if row.get(column) is None:
            present = ", ".join(sorted(name for name in row if row[name] is not None))
            raise ValueError(
                f"{source}, row {number}: column {column!r} is missing; it has {present}; "
                "set data.prompt_column and data.answer_column"
            )
    prompt = row[config.prompt_column]
    if not prompt or not isinstance(prompt, (str, list)):
        raise ValueError(
            f"{source}, row {number}: {config.prompt_column}={prompt!r}, expected text or a list of "
            "messages; remove the row or name another data.prompt_column"
        )
    return row | {
        "prompt": _prompt(prompt, config),
        "prompt_id": _prompt_id(row, prompt, config, source),
        "answer": str(row[config.answer_column]),
    }


def _prompt(prompt: Any, config: DataConfig) -> Any:  # a text or a message list
    if config.template == "plain":
        return prompt
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    system = [{"role": "system", "content": config.system_prompt}] if config.system_prompt else []
    return [*system, *messages]


def _prompt_id(row: Row, prompt: Any, config: DataConfig, source: str) -> str:  # see _prompt
    name = Path(source).name
    given = row.get(config.id_column) if config.id_column else None
    if given is not None:
        return f"{name}/{given}"
    return f"{name}/{hashlib.sha256(_text(prompt).encode()).hexdigest()[:16]}"


def _text(prompt: Any) -> str:  # a text or a message list
    return prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)


def _split_off(rows: list[Row], config: DataConfig) -> tuple[list[Row], list[Row]]:
    """Training and held-out rows: which ones is decided by a hash of seed and id, not by position."""
    if config.heldout_size >= len(rows):
        raise ValueError(f"heldout_size={config.heldout_size} leaves nothing of {len(rows)} rows")
    order = sorted(
        rows, key=lambda row: hashlib.sha256(f"{config.seed}/{row['prompt_id']}".encode()).digest()
    )
    chosen = {row["prompt_id"] for row in order[: config.heldout_size]}
    return (
        [row for row in rows if row["prompt_id"] not in chosen],
        [row for row in rows if row["prompt_id"] in chosen],
    )


def _check_unique(rows: Sequence[Row], source: str) -> None:
    seen: set[str] = set()
    for row in rows:
        if row["prompt_id"] in seen:
            raise ValueError(
                f"{source}: prompt id {row['prompt_id']!r} occurs twice, but statistics are kept per "
                "prompt; remove the duplicate, or name a column with distinct ids in data.id_column"
            )
        seen.add(row["prompt_id"])


def _check_disjoint(train: Sequence[Row], heldout: Sequence[Row]) -> None:
    texts = {_text(row["prompt"]) for row in train}
    both = [row for row in heldout if _text(row["prompt"]) in texts]
    if both:
        raise ValueError(
            f"{len(both)} of {len(heldout)} held-out prompts are also training prompts (first: "
            f"{both[0]['prompt_id']!r}); held-out accuracy would be meaningless, remove them"
        )


def _prompt_lengths(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    prompts = [row["prompt"] for row in rows]
    texts = [
        prompt
        if isinstance(prompt, str)
        else tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
        for prompt in prompts
    ]
    return [len(ids) for ids in tokenizer(text=texts)["input_ids"]]
