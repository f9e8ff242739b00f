from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from accelerate import Accelerator
from rich.console import Console
from transformers import TrainerControl, TrainerState, TrainingArguments

from trainers.evaluate import PromptOutcome, summarise
from trainers.monitoring.curve import draw_learning_curve
from trainers.monitoring.graceful_stop import GracefulStop
from trainers.monitoring.heldout_evaluation import HeldOutEvaluation
from trainers.monitoring.metrics_file import MetricsFile, read_metrics
from trainers.monitoring.model_card import write_model_card
from trainers.monitoring.terminal import ProgressReport, Terminal
from trainers.monitoring.trackers import has_wandb_account, prepare_trackers
from trainers.settings import LoggingConfig

ARGS = cast(TrainingArguments, SimpleNamespace())


def state(step: int, max_steps: int = 10) -> TrainerState:
    return TrainerState(global_step=step, max_steps=max_steps, is_world_process_zero=True)


def test_metrics_are_appended_one_line_a_step_without_what_is_no_number(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path)
    file.on_train_begin(ARGS, state(0), TrainerControl())
    file.on_log(ARGS, state(1), TrainerControl(), logs={"loss": 0.5, "kl": None, "x": float("nan")})
    file.on_log(ARGS, state(2), TrainerControl(), logs={"eval_avg_at_1": 0.25})
    assert read_metrics(file.path) == [{"step": 1, "loss": 0.5}, {"step": 2, "eval/avg_at_1": 0.25}]


def test_a_resumed_run_drops_the_rows_after_its_checkpoint(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path)
    rows = [json.dumps({"step": step}) for step in (1, 2, 3)]
    file.path.write_text("\n".join(rows) + '\n{"step": 4, "lo')
    file.on_train_begin(ARGS, state(2), TrainerControl())
    assert file.path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_a_fresh_run_drops_the_rows_of_one_that_failed_early(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path)
    file.path.write_text('{"step": 0}\n')
    file.on_train_begin(ARGS, state(0), TrainerControl())
    assert file.path.read_text() == ""


def test_a_fresh_run_starts_an_empty_file(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path)
    file.path.write_text('{"step": 5}\n')
    file.on_train_begin(ARGS, state(0), TrainerControl())
    assert file.path.read_text() == ""


def test_the_learning_curve_is_a_picture_and_absent_without_rewards(tmp_path: Path) -> None:
    assert draw_learning_curve(tmp_path, "x") is None
    rows = [
        {"step": 1, "reward": 0.1},
        {"step": 2, "reward": 0.3},
        {"step": 2, "eval/avg_at_1": 1.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    picture = draw_learning_curve(tmp_path, "x")
    assert picture is not None
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_signal_saves_and_stops_after_the_step_and_the_handlers_go_back() -> None:
    text = io.StringIO()
    terminal = Terminal(is_main=True, console=Console(file=text))
    stop = GracefulStop(terminal, Accelerator(cpu=True))
    before = signal.getsignal(signal.SIGTERM)
    stop.on_train_begin(ARGS, state(0), TrainerControl())
    control = TrainerControl()
    stop.on_step_end(ARGS, state(1), control)
    assert not control.should_save
    os.kill(os.getpid(), signal.SIGTERM)
    stop.on_step_end(ARGS, state(2), control)
    stop.on_train_end(ARGS, state(2), control)
    assert control.should_save
    assert control.should_training_stop
    assert stop.was_stopped
    assert "SIGTERM: finishing this step" in text.getvalue()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_ctrl_c_ends_at_once() -> None:
    stop = GracefulStop(Terminal(is_main=False), Accelerator(cpu=True))
    stop.on_train_begin(ARGS, state(0), TrainerControl())
    try:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        stop.on_train_end(ARGS, state(0), TrainerControl())


def test_without_a_terminal_about_twenty_lines_are_printed() -> None:
    text = io.StringIO()
    report = ProgressReport(Terminal(is_main=True, console=Console(file=text)))
    report.on_train_begin(ARGS, state(0, 240), TrainerControl())
    figures = {"reward": 0.5, "completions/mean_length": 30.2, "rollout/tokens_per_s": 9.0}
    for step in range(1, 241):
        logs: dict[str, Any] = {"loss": 0.1, **(figures if step % 4 == 1 else {})}
        report.on_log(ARGS, state(step, 240), TrainerControl(), logs=logs)
    lines = text.getvalue().splitlines()
    assert len(lines) == 20
    assert lines[0].startswith("step 1/240  reward +0.500  length 30  9 tokens/s  left 0:")


def test_other_processes_are_silent() -> None:
    text = io.StringIO()
    Terminal(is_main=False, console=Console(file=text, quiet=True)).line("x")
    assert text.getvalue() == ""


def test_held_out_prompts_are_asked_before_and_every_n_steps_but_not_at_the_end() -> None:
    asked: list[str] = []
    callback = HeldOutEvaluation(
        before=lambda: asked.append("before"), during=lambda: asked.append("during"), every=5
    )
    callback.on_train_begin(ARGS, state(0), TrainerControl())
    for step in range(1, 11):
        callback.on_step_end(ARGS, state(step), TrainerControl())
    assert asked == ["before", "during"]


def test_a_resumed_run_is_not_evaluated_before() -> None:
    asked: list[str] = []
    callback = HeldOutEvaluation(before=lambda: asked.append("x"), during=lambda: None, every=0)
    callback.on_train_begin(ARGS, state(4), TrainerControl())
    assert asked == []


def test_wandb_is_offline_without_an_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not has_wandb_account()
    prepare_trackers(LoggingConfig(output_dir="x", report_to=["wandb"]), tmp_path)
    assert os.environ["WANDB_MODE"] == "offline"
    for name in ("WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT"):
        monkeypatch.delenv(name)


def test_an_account_in_the_netrc_file_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.wandb.ai login user password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert has_wandb_account()


def test_the_model_card_says_how_it_was_made_and_what_it_scored(tmp_path: Path) -> None:
    result = summarise(
        [PromptOutcome(greedy_correct=True, correct=(True,), answers=("1",), num_tokens=3)]
    )
    card = write_model_card(
        tmp_path,
        about="a run",
        base_model="some/model",
        algorithm={"clip": "dac"},
        steps=7,
        evaluations={"after": result},
    ).read_text()
    assert card.startswith("# a run\n")
    assert "7 optimizer steps, starting from `some/model`" in card
    assert "| clip | dac |" in card
    assert "Avg@1 (greedy)  1.000" in card
