"""Environments through the trainer: what is trained, and on which ids."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from inference.engine import Engine
from rewards.base import Sample, Score, Verdict
from rollout.config import PromptTask, RolloutConfig
from rollout.envs.config import EnvConfig
from rollout.growth import grow_trees
from rollout.tree import FinishReason
from tests.tiny_policy import TREE, logged, tiny_model, tiny_trainer
from tests.toy_rewards import CountDigits
from trainers import build
from trainers.evaluate import evaluate_prompts
from trainers.policy_trainer import PolicyTrainer
from trainers.recipe import RecipeError, read_recipe
from trainers.reward_function import judge_with
from trainers.rollout_phase import columns, encode_text, leaf_rows, text_of
from trainers.tasks.char_tokenizer import char_tokenizer

ROOT = Path(__file__).resolve().parents[2]
DIGITS = RolloutConfig(
    width=4,
    segment_length=8,
    max_segments=6,
    env=EnvConfig(type="tests.fake_environments:DigitEcho", piece_tokens=3),
)


def test_engine_and_trainer_agree_on_sampled_tokens(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, rollout=DIGITS, max_steps=6)
    trainer.train()
    mismatches = logged(trainer, "policy/engine_mismatch_max")
    assert len(mismatches) == 3
    assert max(mismatches) < 1e-5
    assert min(logged(trainer, "rollout/observation_tokens")) > 0
    assert min(logged(trainer, "rollout/turns_mean")) > 0.2
    assert all(torch.isfinite(torch.tensor(logged(trainer, "loss"))))


def test_engine_and_trainer_agree_with_fallback(tmp_path: Path) -> None:
    rollout = dataclasses.replace(DIGITS, branching=1, initial_divergence=2, segment_length=4)
    trainer = tiny_trainer(tmp_path, rollout=rollout, model=tiny_model(eos_bias=3.0), max_steps=4)
    trainer.train()
    assert min(logged(trainer, "rollout/fallback_prompt_frac")) > 0
    assert max(logged(trainer, "policy/engine_mismatch_max")) < 1e-5


def test_rows_hold_exactly_the_ids_that_the_engine_saw(tmp_path: Path) -> None:
    """The engine's own record of what was opened, appended and drawn, against the training batch."""
    seen: list[tuple[int, ...]] = []
    close = Engine.close

    def recording_close(engine: Engine, *paths: Any) -> None:  # engine paths
        seen.extend(tuple(path.token_ids) for path in paths)
        close(engine, *paths)

    batches: list[dict[str, Any]] = []  # TRL's own tensors
    make = PolicyTrainer._generate_and_score_completions

    def recording_make(trainer: PolicyTrainer, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batches.append(make(trainer, inputs))
        return batches[-1]

    trainer = tiny_trainer(tmp_path, rollout=DIGITS, max_steps=1)
    with (
        mock.patch.object(Engine, "close", recording_close),
        mock.patch.object(PolicyTrainer, "_generate_and_score_completions", recording_make),
    ):
        trainer.train()
    assert trainer.newest_rollout is not None
    rows = leaf_rows(trainer.newest_rollout.trees)
    (batch,) = batches
    for number, row in enumerate(rows):
        prompt = batch["prompt_ids"][number][batch["prompt_mask"][number].bool()].tolist()
        response_mask = batch["completion_mask"][number].bool()
        response = batch["completion_ids"][number][response_mask].tolist()
        assert tuple(prompt + response) == row.trajectory.token_ids
        assert tuple(prompt + response) in set(seen)
        assert batch["tool_mask"][number][response_mask].tolist() == row.sampled


def test_observation_tokens_carry_no_loss(tmp_path: Path) -> None:
    """The gradient with respect to the log-probs is zero exactly on observations and padding."""
    gradients: list[tuple[torch.Tensor, torch.Tensor]] = []
    logprobs = PolicyTrainer._get_per_token_logps_and_entropies

    def recording(trainer: PolicyTrainer, *args: Any, **kwargs: Any) -> Any:  # TRL's signature
        values = logprobs(trainer, *args, **kwargs)
        if values[0].requires_grad:
            values[0].register_hook(lambda gradient: hooked.append(gradient.clone()))
        return values

    hooked: list[torch.Tensor] = []
    loss = PolicyTrainer._compute_loss

    def recording_loss(trainer: PolicyTrainer, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        inputs["advantages"] = torch.ones_like(inputs["advantages"])
        gradients.append((inputs["completion_mask"], inputs["tool_mask"]))
        return loss(trainer, model, inputs)

    trainer = tiny_trainer(tmp_path, rollout=DIGITS, max_steps=1)
    with (
        mock.patch.object(PolicyTrainer, "_get_per_token_logps_and_entropies", recording),
        mock.patch.object(PolicyTrainer, "_compute_loss", recording_loss),
    ):
        trainer.train()
    assert len(hooked) == len(gradients) >= 1
    for gradient_BT, (completion_BT, tool_BT) in zip(hooked, gradients, strict=True):
        trained_BT = (completion_BT * tool_BT).bool()
        assert torch.equal(gradient_BT != 0, trained_BT)
        assert (completion_BT.bool() & ~trained_BT).any()


def test_without_environment_there_is_no_mask_column(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, rollout=TREE, max_steps=1)
    trainer.train()
    assert trainer.newest_rollout is not None
    assert list(columns(leaf_rows(trainer.newest_rollout.trees))) == [
        "prompt_ids",
        "completion_ids",
        "logprobs",
        "finish",
        "num_segments",
    ]


def test_rewards_get_the_facts_of_their_row(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, rollout=DIGITS, max_steps=1)
    facts: list[dict[str, Any]] = []
    function = trainer.reward_funcs[0]
    original = type(function).__call__

    def recording(self: object, **columns: Any) -> Any:  # TRL's keyword arguments
        facts.extend(columns["episode"])
        return original(self, **columns)

    with mock.patch.object(type(function), "__call__", recording):
        trainer.train()
    assert trainer.newest_rollout is not None
    rows = leaf_rows(trainer.newest_rollout.trees)
    assert facts == [dict(row.trajectory.facts) for row in rows]
    assert all({"total", "turns"} >= set(one) and "turns" in one for one in facts)


def test_text_from_outside_cannot_become_a_special_token() -> None:
    tokenizer = char_tokenizer()
    ids = encode_text(tokenizer, "a<eos>b")
    assert tokenizer.eos_token_id not in ids
    assert text_of(tokenizer, ids) == "a<eos>b"
    assert tokenizer("<eos>")["input_ids"] == [tokenizer.eos_token_id]  # the setting is not sticky


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"type": "calculatr"}, r"rollout\.env\.type='calculatr' is unknown"),
        ({"type": "calculator", "options": {"a": 1}}, "takes no options"),
        ({"type": "calculator", "max_turn": 3}, r"rollout\.env\.max_turn: unknown key"),
        ({"type": "calculator", "max_turns": 0}, r"rollout\.env\.max_turns=0 must be at least 1"),
        ({"type": "calculator", "step_timeout_s": 0.0}, "must be positive and finite"),
        ({"options": {}}, r"rollout\.env\.type is missing"),
    ],
)
def test_a_recipe_with_a_wrong_environment_is_refused_at_the_start(
    section: dict[str, Any], message: str
) -> None:
    raw = read_recipe(ROOT / "recipes" / "dcpo.yaml", [f"rollout.env={json.dumps(section)}"])
    with pytest.raises(RecipeError, match=message):
        build.check(raw)


def test_a_recipe_with_an_environment_is_accepted() -> None:
    section = {"type": "sql_agent", "options": {"executor": "tests.fake_environments:open_shops"}}
    raw = read_recipe(ROOT / "recipes" / "dcpo.yaml", [f"rollout.env={json.dumps(section)}"])
    env = build.decode_recipe(raw).rollout.env
    assert env is not None
    assert (env.type, env.max_turns) == ("sql_agent", 16)


def test_an_evaluation_judges_with_the_facts(tmp_path: Path) -> None:
    references: list[Any] = []  # rows of the data set
    trainer = tiny_trainer(tmp_path, rollout=DIGITS)
    tasks = [PromptTask(prompt_id="p", token_ids=trainer.encode("1+1="), example={"answer": "2"})]

    def judge(
        reward: object, samples: Sequence[Sample], **options: object
    ) -> list[Score]:  # of score_batch
        references.extend(sample.reference for sample in samples)
        return [Score(value=1.0, verdict=Verdict.CORRECT) for _ in samples]

    with (
        trainer.rollout_engine() as engine,
        mock.patch("trainers.reward_function.score_batch", judge),
    ):
        outcomes = evaluate_prompts(
            engine,
            tasks,
            DIGITS,
            k=3,
            judge=judge_with(CountDigits(), trainer.decode),
            decode=trainer.decode,
            eos_token_ids=trainer.eos_token_ids,
            seed=0,
            encode=trainer.encode,
        )
    assert outcomes[0].correct == (True,) * 3
    assert len(references) == 4
    for reference in references:
        assert reference["answer"] == "2"
        assert "turns" in reference["episode"]
        assert reference["finish"] in list(FinishReason)


@pytest.mark.parametrize("piece_tokens", [1, 2, 100])
def test_the_piece_length_changes_no_token_and_no_log_prob_to_speak_of(piece_tokens: int) -> None:
    """The engine draws position t with a number that depends on key and t only."""
    tokenizer = char_tokenizer()
    engine = Engine(tiny_model().eval())

    def rows(length: int) -> list[Any]:  # trajectories
        assert DIGITS.env is not None
        env = dataclasses.replace(DIGITS.env, piece_tokens=length)
        with engine.session():
            trees = grow_trees(
                engine,
                [prompt],
                dataclasses.replace(DIGITS, env=env, width=8),
                decode=lambda ids: text_of(tokenizer, ids),
                eos_token_ids=[int(tokenizer.eos_token_id)],
                seed=5,
                encode=lambda text: encode_text(tokenizer, text),
            )
        assert (engine.num_open_paths, engine.kv_bytes) == (0, 0)
        return [row for tree in trees for row in tree.trajectories()]

    prompt = PromptTask(prompt_id="p", token_ids=tokenizer("1+1=")["input_ids"], example={})
    for row, other in zip(rows(piece_tokens), rows(3), strict=True):
        assert row.token_ids == other.token_ids
        assert row.path == other.path
        assert row.logprobs == pytest.approx(other.logprobs, abs=1e-5)
