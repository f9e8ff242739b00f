from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewards.base import Sample, Verdict
from rewards.batch import score_batch
from rewards.load import config_class, reward_class, reward_types
from rewards.math_answer import MathAnswer, MathAnswerConfig
from rewards.pool import PoolConfig, WorkerPool, shared_pool
from rewards.wire import NotAScore, score_from_reply
from tests.rewards.hostile import Hostile, InProcess

USER_REWARD = '''
from rewards.base import Sample, Score, Verdict

class Shortness:
    """Counts characters."""
    name = "shortness"
    def score(self, sample: Sample) -> Score:
        while sample.completion == "hang":
            pass
        return Score(value=-len(sample.completion), verdict=Verdict.CORRECT)
'''


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(PoolConfig(num_workers=1, item_timeout_s=1.0)) as pool:
        yield pool


def samples(*texts: str) -> list[Sample]:
    return [Sample(completion=text, reference={"answer": "4"}) for text in texts]


def test_an_empty_batch_has_no_scores_and_starts_no_worker() -> None:
    with WorkerPool(PoolConfig(num_workers=1)) as pool:
        assert score_batch(MathAnswer(), [], pool) == [] == score_batch(Hostile(), [], pool)


def test_cheap_answers_never_reach_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the pool was used")

    monkeypatch.setattr(WorkerPool, "score", refuse)
    scores = score_batch(MathAnswer(), samples(r"\boxed{4}", r"\boxed{5}", "nothing"))
    assert [score.value for score in scores] == [1.0, 0.0, 0.0]


def test_a_user_reward_in_one_file_is_found_and_killable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_rewards.py").write_text(USER_REWARD, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    reward = reward_class("my_rewards:Shortness")()
    with WorkerPool(PoolConfig(num_workers=1, item_timeout_s=0.5)) as pool:
        scores = score_batch(reward, samples("abc", "hang"), pool)
    assert [score.value for score in scores] == [-3.0, 0.0]
    assert scores[1].verdict is Verdict.TIMEOUT


def test_a_reward_may_stay_in_the_process_and_its_exceptions_become_verdicts() -> None:
    scores = score_batch(InProcess(), samples("fine", "raise"))
    assert [score.verdict for score in scores] == [Verdict.CORRECT, Verdict.CRASHED]
    assert scores[1].value == InProcess.failure_value and "KeyError" in scores[1].detail


def test_the_shared_pool_is_one_object() -> None:
    assert shared_pool() is shared_pool()


def test_builtin_types_are_found_with_their_configuration() -> None:
    assert "math_answer" in reward_types()
    assert reward_class("math_answer") is MathAnswer
    assert config_class(MathAnswer) is MathAnswerConfig
    assert config_class(Hostile) is None


@pytest.mark.parametrize(
    ("type_name", "message"),
    [
        ("math_anwser", "did you mean math_answer"),
        ("base", "unknown"),
        ("no_such_module:Reward", "importing 'no_such_module' failed"),
        ("rewards.base:Missing", "expected a class"),
        ("rewards.base:Sample", "expected a class"),
    ],
)
def test_a_wrong_type_is_a_clear_error(type_name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reward_class(type_name)


@pytest.mark.parametrize(
    "reply",
    [None, 3, [], {}, {"value": 1, "verdict": "fine", "parts": {}, "detail": ""},
     {"value": 1, "verdict": "correct", "parts": 3, "detail": ""}],
)  # fmt: skip
def test_replies_of_the_wrong_shape_are_refused(reply: object) -> None:
    with pytest.raises(NotAScore):
        score_from_reply(reply, 0.0, 0.1)


def test_a_value_that_is_not_finite_is_a_crash() -> None:
    reply = {"value": float("inf"), "verdict": "correct", "parts": {}, "detail": ""}
    score = score_from_reply(reply, -1.0, 0.1)
    assert (score.value, score.verdict) == (-1.0, Verdict.CRASHED)


@pytest.mark.parametrize("type_name", reward_types())
@pytest.mark.parametrize(
    "completion", ["", "\ud800", "\x00", "\\boxed{}", "\U0001f600" * 1000, "{" * 100_000]
)
def test_every_reward_handles_any_completion_and_repeats_itself(
    type_name: str, completion: str, pool: WorkerPool
) -> None:
    reward = reward_class(type_name)()
    first, second = (score_batch(reward, samples(completion), pool)[0] for _ in range(2))
    assert (first.value, first.verdict) == (second.value, second.verdict)
    assert first.verdict not in (Verdict.CRASHED, Verdict.TIMEOUT)


def test_another_distribution_with_a_module_called_rewards_does_not_shadow_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rewards.py").write_text("raise ImportError('the wrong one')", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with WorkerPool(PoolConfig(num_workers=1)) as pool:
        assert score_batch(Hostile(), samples("fine"), pool)[0].value == 1.0
