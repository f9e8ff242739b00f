from __future__ import annotations

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from inference.philox import path_key
from inference.server.errors import ApiError
from inference.server.jobs import Limits, Planner
from inference.server.scheduler import Delta, Failure
from inference.server.schema import ChatBody, CompletionBody

Policy = tuple[PreTrainedModel, PreTrainedTokenizerBase]


@pytest.fixture
def planner(policy: Policy) -> Planner:
    tokenizer = policy[1]
    limits = Limits(
        context_tokens=100, vocab_size=len(tokenizer), max_new_tokens=50, max_kv_tokens=200
    )
    return Planner(tokenizer, limits)


def nowhere(event: Delta | Failure) -> None:
    raise AssertionError("planning sends nothing")


def completion(**fields: object) -> CompletionBody:
    return CompletionBody.model_validate({"model": "m", "prompt": [1, 2, 3], **fields})


def chat(*messages: tuple[str, str], **fields: object) -> ChatBody:
    spelled = [{"role": role, "content": content} for role, content in messages]
    return ChatBody.model_validate({"model": "m", "messages": spelled, **fields})


def test_answers_are_numbered_over_all_prompts_and_keyed_by_seed_and_number(
    planner: Planner,
) -> None:
    plan = planner.completion(completion(prompt=[[1, 2], [3]], n=2, seed=5), nowhere)
    assert [job.prompt_ids for job in plan.jobs] == [(1, 2), (3,)]
    assert [job.first_index for job in plan.jobs] == [0, 2]
    assert [job.keys for job in plan.jobs] == [
        (path_key(5, 0), path_key(5, 1)),
        (path_key(5, 2), path_key(5, 3)),
    ]
    assert (plan.num_prompt_tokens, plan.num_answers, plan.seed) == (3, 4, 5)


def test_without_a_seed_one_is_drawn_each_time(planner: Planner) -> None:
    seeds = {planner.completion(completion(), nowhere).seed for _ in range(5)}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**53 for seed in seeds)


def test_the_chat_template_is_applied_with_its_special_tokens_only(planner: Planner) -> None:
    plan = planner.chat(chat(("user", "the cat")), nowhere)
    text = planner.tokenizer.decode(list(plan.jobs[0].prompt_ids))
    assert text == "<user>the cat<eos><assistant>"
    assert plan.jobs[0].prompt_ids[0] == planner.tokenizer.convert_tokens_to_ids("<user>")


@pytest.mark.parametrize(
    ("num_prompt", "limit"),
    [(3, 16), (90, 10), (99, 1)],
)
def test_completions_default_to_16_tokens_or_what_is_left(
    planner: Planner, num_prompt: int, limit: int
) -> None:
    plan = planner.completion(completion(prompt=[1] * num_prompt), nowhere)
    assert plan.jobs[0].max_new_tokens == limit


def test_a_chat_may_fill_the_context_up_to_the_limit_of_the_server(planner: Planner) -> None:
    short = planner.chat(chat(("user", "x")), nowhere).jobs[0]
    long = planner.chat(chat(("user", "x" * 70)), nowhere).jobs[0]
    assert short.max_new_tokens == 50
    assert long.max_new_tokens == 100 - len(long.prompt_ids) < 50


@pytest.mark.parametrize(
    ("fields", "param", "numbers"),
    [
        ({"prompt": [1] * 100}, "prompt", ["100 tokens", "context of 100"]),
        ({"prompt": [1] * 120, "max_tokens": 1}, "prompt", ["120", "100"]),
        ({"prompt": [1] * 60, "max_tokens": 41}, "max_tokens", ["60", "41", "100"]),
        ({"max_tokens": 51}, "max_tokens", ["51", "50"]),
        ({"max_tokens": 50, "n": 4}, "max_tokens", ["203", "200"]),
        ({"prompt": ""}, "prompt", ["no tokens"]),
        ({"prompt": [1, 9999]}, "prompt", ["9999"]),
        ({"prompt": [1, -1]}, "prompt", ["-1"]),
    ],
)
def test_what_does_not_fit_is_refused_with_the_numbers(
    planner: Planner, fields: dict[str, object], param: str, numbers: list[str]
) -> None:
    with pytest.raises(ApiError) as caught:
        planner.completion(completion(**fields), nowhere)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert all(number in str(caught.value) for number in numbers)


def test_the_last_tokens_that_fit_are_accepted(planner: Planner) -> None:
    plan = planner.completion(completion(prompt=[1] * 60, max_tokens=40), nowhere)
    assert plan.jobs[0].kv_tokens == 100


def test_a_refusal_of_the_template_is_told(planner: Planner) -> None:
    with pytest.raises(ApiError, match="no developer here") as caught:
        planner.chat(chat(("developer", "x")), nowhere)
    assert caught.value.param == "messages"


def test_without_a_template_the_error_says_what_to_do(
    planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner.tokenizer, "chat_template", None)
    with pytest.raises(ApiError, match="use /v1/completions") as caught:
        planner.chat(chat(("user", "x")), nowhere)
    assert (caught.value.status, caught.value.code) == (400, "no_chat_template")
