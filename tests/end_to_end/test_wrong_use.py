"""Wrong use: one clear line, exit code 2, and no weight was read."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import pytest
from transformers import GPTJConfig

from trainers import build, launch
from trainers.tasks.char_tokenizer import char_tokenizer

RECIPE = Path(__file__).parents[2] / "recipes" / "dcpo.yaml"


def refusal(capsys: pytest.CaptureFixture[str], *overrides: str, more: Sequence[str] = ()) -> str:
    """The one line that `ramify train` prints; loading weights would fail the test."""
    arguments = [part for override in overrides for part in ("--set", override)]
    with (
        mock.patch.object(build, "load_model", side_effect=AssertionError("weights were read")),
        pytest.raises(SystemExit) as stopped,
    ):
        launch.main(RECIPE, "__main__", [*arguments, *more])
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def write_rows(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("rollout.widht=8", ["rollout.widht: unknown key", "did you mean width?"]),
        ("trainer.learning_rat=1.0", ["trainer.learning_rat: unknown key", "learning_rate"]),
        ("trainer.learning_rate=1e-6", ["expected a number", "write 1.0e-6"]),
        ("rolout.width=8", ["rolout: unknown section", "did you mean rollout?"]),
        ("rewards.0.type=math_anwser", ["rewards.0.type", "math_answer"]),
        ("rewards.0.settings.value_wrongg=1.0", ["rewards.0.settings.value_wrongg", "value_wrong"]),
        (
            "trainer.temperature=0.7",
            ["trainer.temperature could not take effect", "rollout.temperature"],
        ),
        ("trainer.use_vllm=true", ["trainer.use_vllm could not take effect"]),
        ("trainer.scale_rewards=none", ["scale_rewards", "no effect with trainer.advantage=sas"]),
        ("rollout.top_p=0.9", ["top_p=0.9", "sample from it"]),
        ("rollout.temperature=0.0", ["temperature=0.0", "positive"]),
        ("trainer.epsilon=-1.0", ["trainer.epsilon=-1.0 must be positive"]),
        ("trainer.max_steps=0", ["max_steps=0 trains nothing"]),
        ("trainer.clip=dacc", ["trainer.clip='dacc'", "fixed, dac"]),
        ("trainer.max_steps=many", ['trainer.max_steps="many"', "an integer"]),
        ("model.path=./no_such_folder", ["no_such_folder: no such folder"]),
        ("data.train=./no_such_file.jsonl", ["no_such_file.jsonl", "no such file"]),
        ("data.chain_sums.train_size=8", ["num_prompts=8", "16 prompts of one rollout batch"]),
        ("rollout.max_segments=40", ["exceed the model's", "lower rollout.max_segments"]),
        ("rollout.initial_divergence=9", ["initial_divergence=9", "width=8"]),
    ],
)
def test_a_wrong_value_is_named(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    override: str,
    parts: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refusal(capsys, override, more=["--output_dir", str(tmp_path / "run")])
    assert [part for part in parts if part not in line] == []


def test_missing_columns_are_named_with_those_that_are_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"question": "1+1=", "answer": "2"}])
    line = refusal(capsys, f"data.train={rows}")
    assert "column 'prompt' is missing; it has answer, question" in line


def test_held_out_prompts_that_are_training_prompts_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": "1+1=", "answer": "2"}])
    line = refusal(capsys, f"data.train={rows}", f"data.heldout={rows}")
    assert "1 of 1 held-out prompts are also training prompts" in line


def test_a_model_type_that_the_engine_cannot_run_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    GPTJConfig(n_embd=16, n_layer=1, n_head=2, rotary_dim=4).save_pretrained(tmp_path)
    char_tokenizer().save_pretrained(tmp_path)
    assert "gptj" in refusal(capsys, f"model.path={tmp_path}")


def test_a_prompt_group_split_over_ranks_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    line = refusal(
        capsys, "trainer.per_device_train_batch_size=2", "trainer.steps_per_generation=2"
    )
    assert "the 4 rows of a process split the groups of rollout.width=8" in line


def test_two_cpu_processes_that_would_run_as_one_are_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.delenv("RANK", raising=False)
    assert "accelerate_configs/cpu_2.yaml" in refusal(capsys)


def test_bf16_on_a_machine_without_gpu_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "trainer.bf16=true asks for a GPU" in refusal(capsys, "trainer.bf16=true")


def test_unknown_arguments_are_refused_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "--dry_run" in refusal(capsys, more=["--dryrun"])
    assert "--set trainer.max_steps=2" in refusal(capsys, more=["trainer.max_steps=2"])


def test_resuming_from_what_is_not_there_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = refusal(
        capsys,
        more=["--output_dir", str(tmp_path / "run"), "--resume", str(tmp_path / "checkpoint-7")],
    )
    assert "checkpoint-7: no such folder; complete ones: none" in line


def test_a_missing_recipe_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        launch.main(None, "__main__", ["recipes/no_such.yaml"])
    assert stopped.value.code == 2
    assert "no_such.yaml" in capsys.readouterr().err


def test_a_dry_run_of_a_warm_start_makes_nothing(tmp_path: Path) -> None:
    recipe = RECIPE.with_name("warmstart.yaml")
    output = tmp_path / "policy"
    launch.main(recipe, "__main__", ["--dry_run", "--output_dir", str(output)])
    assert not output.exists()


def test_nothing_is_left_behind(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    refusal(capsys, "data.chain_sums.train_size=8", more=["--output_dir", str(tmp_path / "run")])
    assert os.listdir(tmp_path) == []
