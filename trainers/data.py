"""Prompts: the embedded task, local files, hub data sets; checked before a model is loaded.

Every row has `prompt` (text, or messages when `template: chat`), `prompt_id` (stable over epochs,
ranks and restarts: data set and row id, else a hash of data set and prompt) and `answer`, plus the
columns that it came with (rewards may read them).
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset, load_dataset
from transformers import PreTrainedTokenizerBase

from trainers.tasks.chain_sums import ChainSumsConfig, chain_sum_rows

EMBEDDED = "chain_sums"
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".parquet")
Row = dict[str, Any]  # one row of a data set: its columns are the user's


@dataclass(slots=True, kw_only=True)
class DataConfig:
    """Section `data` of a recipe."""

    train: str
    """chain_sums (embedded), a file (.jsonl, .jsonl.gz, .json with one row a line, .parquet) or a hub id."""
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
    """Sizes of the embedded task."""

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
        raise ValueError("template=chat, but the tokenizer has no chat template; use template: plain")
    train = _source_rows(config, config.train, config.split)[: config.limit]
    heldout = _heldout_rows(config, train)
    if config.heldout is None and config.heldout_size:
        train, heldout = _split_off(train, config)
    _check_unique(train, config.train)
    _check_disjoint(train, heldout)
    lengths = _prompt_lengths([*train, *heldout], tokenizer)
    longest = config.max_prompt_tokens or max(lengths)
    kept = [row for row, length in zip(train, lengths, strict=False) if length <= longest]
    asked = [r for r, n in zip(heldout, lengths[len(train) :], strict=True) if n <= longest]
    if not kept:
        raise ValueError(f"no prompt has at most max_prompt_tokens={longest}; the shortest has {min(lengths)}")
    return PromptData(
        train=Dataset.from_list(kept),
        heldout=Dataset.from_list(asked) if asked else None,
        num_dropped=len(train) + len(heldout) - len(kept) - len(asked),
        longest_prompt_tokens=max(n for n in lengths if n <= longest),
    )


def _heldout_rows(config: DataConfig, train: Sequence[Row]) -> list[Row]:
    if config.heldout is not None:
        return _source_rows(config, config.heldout, config.heldout_split)
    if config.train == EMBEDDED and not config.heldout_size:
        return _source_rows(config, EMBEDDED, "heldout")
    return []


def _source_rows(config: DataConfig, source: str, split: str) -> list[Row]:
    """All rows of a source in the common format."""
    if source == EMBEDDED:
        part: Literal["train", "heldout"] = "train" if split == config.split else "heldout"
        raw: list[Row] = list(chain_sum_rows(config.chain_sums, part))
    elif source.endswith(SUFFIXES):
        raw = list(_file_rows(Path(source).expanduser()))
    else:
        raw = _hub_rows(source, config.name, split)
    if not raw:
        raise ValueError(f"{source} has no rows")
    return [_formatted(row, config, source, number) for number, row in enumerate(raw, start=1)]


def _file_rows(path: Path) -> Iterator[Row]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file (looked from {Path.cwd()})")
    if path.suffix == ".parquet":
        import pyarrow.parquet

        yield from pyarrow.parquet.read_table(path).to_pylist()
        return
    opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
    with opened as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _json_row(line, f"{path}:{number}")


def _json_row(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error.msg}); expected one object a line") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: {type(row).__name__} instead of an object with columns")
    return row


def _hub_rows(source: str, name: str | None, split: str) -> list[Row]:
    try:
        return load_dataset(source, name, split=split).to_list()
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{source!r} is neither {EMBEDDED}, nor a file ({', '.join(SUFFIXES)}), nor can it be "
            f"loaded from the hub: {first}"
        ) from error


def _formatted(row: Row, config: DataConfig, source: str, number: int) -> Row:
    for column in (config.prompt_column, config.answer_column):
        if row.get(column) is None:
            present = ", ".join(sorted(name for name in row if row[name] is not None))
            raise ValueError(
                f"{source}, row {number}: column {column!r} is missing; it has {present}; "
                "set data.prompt_column and data.answer_column"
            )
    prompt = row[config.prompt_column]
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
    order = sorted(rows, key=lambda row: hashlib.sha256(f"{config.seed}/{row['prompt_id']}".encode()).digest())
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
