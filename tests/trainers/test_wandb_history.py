"""What wandb keeps offline is what metrics.jsonl and rollouts/ say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers.integrations import WandbCallback

from rollout.dump import read_samples
from tests.tiny_policy import tiny_trainer
from tests.wandb_file import history
from trainers.monitoring.metrics_file import MetricsFile, read_metrics
from trainers.monitoring.rollout_samples import RolloutSamples
from trainers.monitoring.rollout_tables import COLUMNS
from trainers.report.dashboard import TREES_KEY, tracked


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of four steps that logs to wandb, offline, and to files."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
            patch.setenv(name, str(folder))
        patch.setenv("WANDB_SILENT", "true")
        trainer = tiny_trainer(folder)
        trainer.add_callback(WandbCallback())
        trainer.add_callback(MetricsFile(folder))
        trainer.add_callback(
            RolloutSamples(
                folder, newest=lambda: trainer.newest_rollout, decode=trainer.decode, every=2
            )
        )
        trainer.train()
        trainer.log_evaluation({"eval/avg_at_1": 0.25})
        import wandb

        wandb.finish()
        wandb.teardown()  # ends the process that writes the file
        yield folder


@pytest.fixture(scope="module")
def logged(run_dir: Path) -> list[dict[str, Any]]:  # JSON values
    return history(next(run_dir.glob("wandb/offline-run-*/run-*.wandb")))


def test_every_metric_of_the_file_is_in_the_history_with_its_step(
    run_dir: Path, logged: list[dict[str, Any]]
) -> None:
    rows = read_metrics(run_dir / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 4]
    missing = []
    for row in rows:
        values = {tracked(key): value for key, value in row.items() if key != "step"}
        values["train/global_step"] = row["step"]
        if not any(values.items() <= entry.items() for entry in logged):
            missing.append(values)
    assert missing == []
    assert len(rows[0]) > 60


def test_trees_are_logged_as_tables_and_as_pages_in_the_run_folder(
    run_dir: Path, logged: list[dict[str, Any]]
) -> None:
    entries = [entry for entry in logged if f"{TREES_KEY}.html" in entry]
    assert [entry["train/global_step"] for entry in entries] == [1, 3]
    files = run_dir / "wandb" / "latest-run" / "files"
    pages = [path.read_text() for path in sorted(files.glob("media/html/rollouts/*.html"))]
    assert len(pages) == 4  # two trees of two rollout batches
    assert all("default-src 'none'" in page and "page-data" in page for page in pages)
    tables = {path.name[:11]: json.loads(path.read_text()) for path in files.rglob("*.table.json")}
    assert sorted(tables) == ["step_000000", "step_000002"]
    assert tables["step_000000"]["columns"] == list(COLUMNS)


def test_the_files_carry_what_the_tables_say(run_dir: Path) -> None:
    with (run_dir / "rollouts" / "step_000002.jsonl").open() as file:
        samples = list(read_samples(file))
    table = next((run_dir / "wandb" / "latest-run" / "files").rglob("step_000002*.table.json"))
    rows = json.loads(table.read_text())["data"]
    assert len(samples) == len(rows) == 2
    for sample, (prompt, leaves, mean_score, best_score, sharing, _) in zip(
        samples, rows, strict=True
    ):
        scores = [score for score in sample.scores if score is not None]
        assert (prompt, leaves) == (sample.texts[0], len(sample.tree.leaves))
        assert mean_score == pytest.approx(sum(scores) / len(scores), abs=1e-6)
        assert best_score == pytest.approx(max(scores), abs=1e-6)
        assert sharing == pytest.approx(sample.tree.sharing_ratio)
        assert len(sample.advantages) == leaves
