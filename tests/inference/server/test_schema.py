from __future__ import annotations

import pytest
from pydantic import ValidationError

from inference.server.errors import ApiError, from_validation
from inference.server.schema import ChatBody, CompletionBody


def refused(body: dict[str, object]) -> ApiError:
    with pytest.raises(ValidationError) as caught:
        CompletionBody.model_validate({"model": "m", "prompt": "p", **body})
    return from_validation(
        [{**error, "loc": ("body", *error["loc"])} for error in caught.value.errors()]
    )


def refused_chat(body: dict[str, object]) -> ApiError:
    messages = [{"role": "user", "content": "hi"}]
    with pytest.raises(ValidationError) as caught:
        ChatBody.model_validate({"model": "m", "messages": messages, **body})
    return from_validation(
        [{**error, "loc": ("body", *error["loc"])} for error in caught.value.errors()]
    )


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
    ],
)
def test_all_spellings_of_a_prompt_become_a_list(prompt: object, prompts: object) -> None:
    assert CompletionBody.model_validate({"model": "m", "prompt": prompt}).prompt == prompts


@pytest.mark.parametrize("prompt", [[], [1, "a"], [[1], 2], 3, True, [True], {"a": 1}, [["a"]]])
def test_other_prompts_are_refused(prompt: object) -> None:
    assert refused({"prompt": prompt}).param == "prompt"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "function"}]),
        ("response_format", {"type": "json_object"}),
        ("logit_bias", {"5": 100}),
        ("top_logprobs", 2),
        ("frequency_penalty", 0.5),
        ("echo", True),
        ("best_of", 3),
        ("suffix", "x"),
        ("tool_choice", "required"),
        ("service_tier", "priority"),
        ("reasoning_effort", "low"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(field: str, value: object) -> None:
    error = refused_chat({field: value})
    assert (error.param, error.code) == (field, "unsupported_parameter")
    assert "not supported" in str(error)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", []),
        ("tools", None),
        ("logit_bias", {}),
        ("presence_penalty", 0.0),
        ("response_format", {"type": "text"}),
        ("user", "someone"),
        ("temperature", None),
        ("n", None),
    ],
)
def test_values_that_ask_for_nothing_are_accepted(field: str, value: object) -> None:
    body = CompletionBody.model_validate({"model": "m", "prompt": "p", field: value})
    assert (body.temperature, body.n) == (1.0, 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1),
        ("temperature", float("nan")),
        ("temperature", "hot"),
        ("top_p", 0),
        ("top_p", 1.5),
        ("top_k", -1),
        ("min_p", 1.0),
        ("n", 0),
        ("n", True),
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("seed", 2**63),
        ("stop", ["a", "b", "c", "d", "e"]),
        ("stop", [""]),
        ("stop", 3),
        ("logprobs", 2),
        ("stream", "yes"),
        ("stream_options", {"include_usage": True}),
        ("no_such_field", 1),
    ],
)
def test_a_bad_value_is_refused_and_the_parameter_named(field: str, value: object) -> None:
    error = refused({field: value})
    assert (error.status, error.param) == (400, field)
    assert field in str(error)


def test_a_missing_field_is_named() -> None:
    assert str(refused({"prompt": None})) == "prompt is required"


def test_the_path_to_a_bad_message_is_spelled_out() -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "robot", "content": "hi"}]
    assert refused_chat({"messages": messages}).param == "messages[1].role"


def test_text_parts_are_joined_and_other_parts_refused() -> None:
    text = {"type": "text", "text": "a"}
    messages = [{"role": "user", "content": [text, {"type": "text", "text": "b"}]}]
    body = ChatBody.model_validate({"model": "m", "messages": messages})
    assert body.messages[0].content == "a\nb"
    image = {"type": "image_url", "image_url": {"url": "x"}}
    error = refused_chat({"messages": [{"role": "user", "content": [text, image]}]})
    assert "image_url" in str(error) and "not supported" in str(error)


def test_the_two_names_of_the_token_limit_must_agree() -> None:
    message = {"role": "user", "content": "hi"}
    body = ChatBody.model_validate(
        {"model": "m", "messages": [message], "max_completion_tokens": 5}
    )
    assert body.max_tokens == 5
    assert refused_chat({"max_completion_tokens": 5, "max_tokens": 6}).param == "max_tokens"
