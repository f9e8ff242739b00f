"""`ramify score`: judge a file of predictions offline, so that a reward can be trusted before a run.

Predictions are JSON lines with `id`, `completion` and the columns that the reward reads (for
math_answer: `answer`). With --cases the rows are a case table of the reward and the agreement with
its expected values is reported. The result is JSON lines: id, score, correct, status, detail.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from rewards.base import Reward, Sample, Score, Verdict
from rewards.batch import score_batch
from rewards.cases import Case, case_reader
from rewards.load import config_class, reward_class
from trainers.recipe_decoding import decode
from trainers.recipe_format import load_yaml

SAMPLES_PER_BATCH = 64
AGREEMENT = 1e-6
"""Two scores closer than this agree: tables write six decimals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One row of the result."""

    case: Case
    score: Score

    @property
    def agrees(self) -> bool:
        """Whether the value is the expected one; only for case tables."""
        value, expected = self.score.value, self.case.expected
        if value is None or expected is None:
            return value is expected
        return abs(value - expected) < AGREEMENT

    def row(self) -> dict[str, object]:
        """What is written to the output file."""
        return {
            "id": self.case.id,
            "score": self.score.value,
            "correct": self.score.verdict is Verdict.CORRECT,
            "status": str(self.score.verdict),
            "detail": self.score.detail,
        }


def main(given: argparse.Namespace) -> int:
    """Judge and report; returns 1 when a case table does not agree.

    Args:
        given: reward, predictions, cases, out, settings (`key=value` texts).

    Raises:
        ValueError: a file, a column or a setting is wrong.
    """
    console = Console(highlight=False, soft_wrap=True)
    cls = reward_class(given.reward)
    path = Path(given.cases or given.predictions)
    rows = list(_json_lines(path))
    if given.cases:
        read = case_reader(cls)
        cases = [read(row, path.parent) for row in rows]
    else:
        reward = _configured(cls, given.settings)
        cases = [_prediction(row, reward, path, number) for number, row in enumerate(rows, 1)]
    judged = _judge(cases, console)
    if given.out:
        text = "".join(json.dumps(item.row(), ensure_ascii=True) + "\n" for item in judged)
        Path(given.out).write_text(text)
    return _report(judged, console, is_table=bool(given.cases))


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:  # columns are the user's
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: not JSON ({error.msg})") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}:{number}: expected an object with columns")
        yield row


def _configured(cls: type[Reward], settings: Sequence[str]) -> Reward:
    """The reward with `--set key=value` settings checked against its Config class."""
    config = config_class(cls)
    values: dict[str, object] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"--set {setting}: expected key=value")
        values[key] = load_yaml(text, f"--set {setting}")
    if config is None:
        if values:
            raise ValueError(f"{cls.__name__} takes no settings, got {', '.join(values)}")
        return cls()
    return cls(decode(values, config, source="--set", where="settings"))  # type: ignore[call-arg]  # by convention


def _prediction(row: Mapping[str, Any], reward: Reward, path: Path, number: int) -> Case:
    if not isinstance(row.get("completion"), str):
        raise ValueError(
            f"{path}, row {number}: column 'completion' is missing or no text; it has "
            f"{', '.join(sorted(row))}"
        )
    return Case(
        id=str(row.get("id", number)),
        reward=reward,
        sample=Sample(
            completion=row["completion"], prompt=str(row.get("prompt", "")), reference=row
        ),
        expected=0.0,
    )


def _judge(cases: Sequence[Case], console: Console) -> list[Judgement]:
    """Scores in order; neighbouring rows with the same settings go to the workers together."""
    judged: list[Judgement] = []
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("judging", total=len(cases))
        for _, group in groupby(cases, key=lambda case: _settings(case.reward)):
            same = list(group)
            for start in range(0, len(same), SAMPLES_PER_BATCH):
                part = same[start : start + SAMPLES_PER_BATCH]
                scores = score_batch(part[0].reward, [case.sample for case in part])
                judged += [Judgement(case=c, score=s) for c, s in zip(part, scores, strict=True)]
                progress.update(bar, completed=len(judged))
    return judged


def _settings(reward: Reward) -> tuple[type, str]:
    return type(reward), repr(getattr(reward, "config", None))


def _report(judged: Sequence[Judgement], console: Console, *, is_table: bool) -> int:
    values = [item.score.value for item in judged if item.score.value is not None]
    mean = sum(values) / len(values) if values else float("nan")
    console.print(f"{len(judged)} rows, mean score {mean:.4f}", markup=False)
    for verdict, count in Counter(str(item.score.verdict) for item in judged).most_common():
        console.print(f"  {verdict:<14}{count:>7}  {count / len(judged):.1%}", markup=False)
    if not is_table:
        return 0
    wrong = [item for item in judged if not item.agrees]
    console.print(f"agreement {len(judged) - len(wrong)}/{len(judged)}", markup=False)
    for item in wrong:
        console.print(
            f"  {item.case.id}: expected {item.case.expected}, got {item.score.value} "
            f"({item.score.verdict}: {item.score.detail[:80]})",
            markup=False,
        )
    return 1 if wrong else 0
