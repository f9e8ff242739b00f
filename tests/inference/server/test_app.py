from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from fastapi.testclient import TestClient
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from inference.engine import Engine, Path
from inference.philox import path_key
from inference.requests import DecodedSegment, SamplingParams
from inference.server.app import ServeOptions, build_service, create_app
from tests.inference.server.conftest import CONTEXT, MakeServer, RunningServer, wait_until

Policy = tuple[PreTrainedModel, PreTrainedTokenizerBase]
NAME = "tiny-llama"
MESSAGES: list[Any] = [{"role": "user", "content": "the cat"}]  # the client wants its own types


def test_a_seeded_completion_equals_the_engine(server: RunningServer, policy: Policy) -> None:
    model, tokenizer = policy
    prompt = "the cat sat"
    reply = server.client.completions.create(
        model=NAME, prompt=prompt, max_tokens=24, seed=7, n=2, top_p=0.9, logprobs=0
    )
    engine = Engine(copy.deepcopy(model))
    with engine.session():
        segments = engine.decode(
            engine.fork(engine.open(tokenizer(prompt).input_ids), 2),
            max_new_tokens=24,
            sampling=SamplingParams(top_p=0.9),
            stop_token_ids=(tokenizer.eos_token_id,),
            keys=(path_key(7, 0), path_key(7, 1)),
        )
    texts = [tokenizer.decode(list(s.token_ids), skip_special_tokens=True) for s in segments]
    assert [choice.text for choice in reply.choices] == texts
    for choice, segment in zip(reply.choices, segments, strict=True):
        assert choice.logprobs is not None
        # float32, other packing
        assert choice.logprobs.token_logprobs == pytest.approx(segment.logprobs, abs=1e-5)
    assert reply.usage is not None
    assert reply.usage.completion_tokens == sum(len(segment.token_ids) for segment in segments)
    assert reply.usage.prompt_tokens == len(tokenizer(prompt).input_ids)


def test_a_streamed_completion_equals_the_whole_one(server: RunningServer) -> None:
    fields: dict[str, Any] = {  # fields of an overloaded method
        "model": NAME, "prompt": ["the cat", "sat"], "n": 2, "seed": 3, "max_tokens": 40, "logprobs": 1,
    }  # fmt: skip
    reply = server.client.completions.create(**fields)
    as_stream = {**fields, "stream": True, "stream_options": {"include_usage": True}}
    chunks = list(server.client.completions.create(**as_stream))
    assert chunks[-1].usage == reply.usage and not chunks[-1].choices
    assert len(chunks) > 20
    for choice in reply.choices:
        pieces = [
            piece for chunk in chunks for piece in chunk.choices if piece.index == choice.index
        ]
        assert "".join(piece.text for piece in pieces) == choice.text
        assert [p.finish_reason for p in pieces if p.finish_reason] == [choice.finish_reason]
        joined = {
            name: [value for piece in pieces for value in getattr(piece.logprobs, name)]
            for name in ("tokens", "token_logprobs", "text_offset")
        }
        assert choice.logprobs is not None
        assert joined["tokens"] == choice.logprobs.tokens
        assert joined["text_offset"] == choice.logprobs.text_offset
        # float32, other packing
        assert joined["token_logprobs"] == pytest.approx(choice.logprobs.token_logprobs, abs=1e-5)


def test_a_streamed_chat_equals_the_whole_one(server: RunningServer) -> None:
    fields: dict[str, Any] = {  # fields of an overloaded method
        "model": NAME, "messages": MESSAGES, "n": 2, "seed": 4, "max_tokens": 40, "logprobs": True,
    }  # fmt: skip
    reply = server.client.chat.completions.create(**fields)
    chunks = list(server.client.chat.completions.create(**fields, stream=True))
    assert [chunk.choices[0].delta.role for chunk in chunks[:3]] == ["assistant", "assistant", None]
    for choice in reply.choices:
        pieces = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == choice.index]
        assert "".join(piece.delta.content or "" for piece in pieces) == choice.message.content
        assert pieces[-1].finish_reason == choice.finish_reason
        tokens = [t for p in pieces if p.logprobs for t in p.logprobs.content or []]
        assert choice.logprobs is not None and choice.logprobs.content is not None
        assert [token.token for token in tokens] == [t.token for t in choice.logprobs.content]


def test_a_chat_is_the_completion_of_its_template(server: RunningServer, policy: Policy) -> None:
    ids = policy[1]("<user>the cat<eos><assistant>", add_special_tokens=False).input_ids
    chat = server.client.chat.completions.create(
        model=NAME, messages=MESSAGES, seed=1, max_completion_tokens=20
    )
    completion = server.client.completions.create(model=NAME, prompt=ids, seed=1, max_tokens=20)
    assert chat.choices[0].message.content == completion.choices[0].text
    assert chat.usage is not None and chat.usage.prompt_tokens == len(ids)


def test_mixed_requests_at_the_same_time_equal_the_same_ones_alone(server: RunningServer) -> None:
    def ask(number: int) -> tuple[object, ...]:
        fields: dict[str, Any] = {  # fields of an overloaded method
            "model": NAME,
            "prompt": [10 + number] * (3 + number),
            "seed": number,
            "n": 1 + number % 3,
            "max_tokens": 10 + 7 * (number % 4),
            "temperature": (0.0, 0.7, 1.0)[number % 3],
            "stop": ["th", "q"] if number % 2 else None,
            "extra_body": {"top_k": 20 * (number % 2), "min_p": 0.01 * (number % 4)},
        }
        if number % 4:
            reply = server.client.completions.create(**fields)
            return tuple((c.text, c.finish_reason) for c in reply.choices)
        texts = [""] * fields["n"]
        reasons: list[object] = [None] * fields["n"]
        for chunk in server.client.completions.create(**fields, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.text
                reasons[choice.index] = choice.finish_reason
        return tuple(zip(texts, reasons, strict=True))

    alone = [ask(number) for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(ask, range(16)))
    assert together == alone
    assert len(set(alone)) == 16


def test_the_seed_that_was_drawn_repeats_the_answer(server: RunningServer) -> None:
    first = server.client.completions.create(model=NAME, prompt="the", max_tokens=20)
    seed = (first.model_extra or {})["seed"]
    again = server.client.completions.create(model=NAME, prompt="the", max_tokens=20, seed=seed)
    assert again.choices[0].text == first.choices[0].text


def test_a_stop_string_cuts_the_text_before_it(server: RunningServer) -> None:
    fields: dict[str, Any] = {
        "model": NAME,
        "prompt": "the",
        "seed": 2,
        "max_tokens": 60,
    }  # as above
    free = server.client.completions.create(**fields).choices[0]
    stop = free.text[20:23]
    cut = server.client.completions.create(**fields, stop=stop).choices[0]
    streamed = list(server.client.completions.create(**fields, stop=[stop], stream=True))
    assert free.finish_reason == "length"
    assert (cut.text, cut.finish_reason) == (free.text.split(stop)[0], "stop")
    assert "".join(chunk.choices[0].text for chunk in streamed) == cut.text


def test_the_end_token_ends_an_answer(make_server: MakeServer, policy: Policy) -> None:
    tokenizer = policy[1]
    with make_server() as server:
        server.service.scheduler._stop_token_ids = tuple(range(len(tokenizer)))  # every token ends
        reply = server.client.completions.create(
            model=NAME, prompt=["the", "cat"], max_tokens=9, logprobs=0
        )
    assert reply.usage is not None and reply.usage.completion_tokens == 2
    assert [(c.text, c.finish_reason) for c in reply.choices] == [("", "stop")] * 2
    assert all(c.logprobs and len(c.logprobs.tokens or []) == 1 for c in reply.choices)


def test_log_probs_of_a_chat_name_tokens_and_bytes(server: RunningServer) -> None:
    reply = server.client.chat.completions.create(
        model=NAME, messages=MESSAGES, seed=1, max_tokens=30, logprobs=True
    )
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert len(logprobs.content) == 30
    for token in logprobs.content:
        assert token.logprob <= 0.0
        assert token.bytes == (None if "\ufffd" in token.token else list(token.token.encode()))


def test_models_and_health(server: RunningServer) -> None:
    assert [model.id for model in server.client.models.list()] == [NAME]
    wait_until(lambda: server.health()["running"] == 0)
    assert server.health() == {"status": "ok", "waiting": 0, "running": 0, "kv_bytes": 0}


def test_an_unknown_model_is_not_found(server: RunningServer) -> None:
    with pytest.raises(openai.NotFoundError, match="'tiny-llama'") as caught:
        server.client.completions.create(model="other", prompt="the")
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(server: RunningServer) -> None:
    with pytest.raises(
        openai.BadRequestError, match=f"600 tokens .* context of {CONTEXT}"
    ) as caught:
        server.client.completions.create(model=NAME, prompt=[5] * 600)
    assert (caught.value.param, caught.value.code) == ("prompt", "context_length_exceeded")


def test_tools_are_refused_and_not_ignored(server: RunningServer) -> None:
    tool: Any = {"type": "function", "function": {"name": "f"}}  # the client wants its own types
    with pytest.raises(openai.BadRequestError, match="not supported") as caught:
        server.client.chat.completions.create(model=NAME, messages=MESSAGES, tools=[tool])
    assert caught.value.param == "tools"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not valid JSON"),
        (b"[1]", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b"", "must be a JSON object"),
        (b"{}", "model is required"),
        (b'{"model": "tiny-llama", "prompt": "x", "temperature": NaN}', "temperature"),
        (b'{"model": "tiny-llama", "prompt": "\xff"}', ""),
    ],
)
def test_a_malformed_body_gets_an_openai_error(
    server: RunningServer, body: bytes, message: str
) -> None:
    url = f"{server.url}/v1/completions"
    reply = httpx.post(url, content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert message in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/x", 404), ("GET", "/v1/completions", 405)]
)
def test_unknown_addresses_get_an_openai_error(
    server: RunningServer, method: str, path: str, status: int
) -> None:
    reply = httpx.request(method, f"{server.url}{path}")
    assert reply.status_code == status
    assert path in reply.json()["error"]["message"]


def test_a_key_is_demanded_when_one_is_set(make_server: MakeServer) -> None:
    with make_server(api_key="secret") as server:
        with pytest.raises(openai.AuthenticationError, match="API key"):
            server.client.completions.create(model=NAME, prompt="the")
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="secret")
        assert client.completions.create(model=NAME, prompt="the").choices
        assert server.health()["status"] == "ok"


class Gate:
    """Makes the steps of all engines wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_open = threading.Event()
        step = Engine.step

        def gated(engine: Engine) -> list[tuple[Path, DecodedSegment]]:
            self.is_open.wait(30)
            return step(engine)

        monkeypatch.setattr(Engine, "step", gated)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.is_open.set()


def test_a_full_queue_is_429_with_retry_after(make_server: MakeServer, gate: Gate) -> None:
    body = {"model": NAME, "prompt": "the", "max_tokens": 300, "stop": ["\x00"]}
    with make_server(max_kv_tokens=350, max_queue=1) as server, ThreadPoolExecutor(2) as pool:
        running = pool.submit(server.post, "/v1/completions", body)
        wait_until(lambda: server.service.scheduler._answers)
        waiting = pool.submit(server.post, "/v1/completions", body)
        wait_until(lambda: server.health()["waiting"] == 1)
        refused = server.post("/v1/completions", body)
        gate.is_open.set()
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "1"
        assert refused.json()["error"]["code"] == "queue_full"
        assert running.result().status_code == waiting.result().status_code == 200


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_client_that_leaves_frees_its_kv(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch, is_stream: bool
) -> None:
    body = {"model": NAME, "prompt": "the", "max_tokens": 500, "n": 4, "stream": is_stream}
    with make_server() as server:
        slow_down(monkeypatch)  # 500 steps would end before the client has left
        with httpx.Client() as client:
            request = client.build_request(
                "POST", f"{server.url}/v1/completions", json=body, timeout=1.0
            )
            leave_early(client, request, is_stream)
        wait_until(lambda: server.health()["running"] == 0, timeout_s=5.0)
        wait_until(lambda: server.health()["kv_bytes"] == 0, timeout_s=5.0)
        assert server.service.scheduler._engine.num_open_paths == 0


def slow_down(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Engine.step

    def slow(engine: Engine) -> list[tuple[Path, DecodedSegment]]:
        time.sleep(0.05)
        return step(engine)

    monkeypatch.setattr(Engine, "step", slow)


def leave_early(client: httpx.Client, request: httpx.Request, is_stream: bool) -> None:
    if is_stream:
        reply = client.send(request, stream=True)
        assert next(reply.iter_lines()).startswith("data: ")
        reply.close()
    else:
        with pytest.raises(httpx.ReadTimeout):
            client.send(request)


def test_an_engine_failure_is_told_and_health_turns_bad(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(engine: Engine) -> list[tuple[Path, DecodedSegment]]:
        raise FloatingPointError("NaN logits")

    body = {"model": NAME, "prompt": "the"}
    with make_server() as server:
        monkeypatch.setattr(Engine, "step", fail)
        first = server.post("/v1/completions", body)
        second = server.post("/v1/completions", body)
        health = httpx.get(f"{server.url}/health")
    assert (first.status_code, second.status_code, health.status_code) == (500, 503, 503)
    assert all("NaN logits" in reply.text for reply in (first, second, health))


def test_an_engine_failure_in_a_stream_is_an_event(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(engine: Engine) -> list[tuple[Path, DecodedSegment]]:
        raise FloatingPointError("NaN logits")

    with make_server() as server:
        monkeypatch.setattr(Engine, "step", fail)
        reply = server.post("/v1/completions", {"model": NAME, "prompt": "the", "stream": True})
    events = [line.removeprefix("data: ") for line in reply.text.splitlines() if line]
    assert len(events) == 1
    assert "NaN logits" in json.loads(events[0])["error"]["message"]


def test_a_bug_in_the_server_is_a_500_without_details(policy: Policy) -> None:
    options = ServeOptions(checkpoint="x", max_new_tokens=10)
    service = build_service(copy.deepcopy(policy[0]), policy[1], options)
    object.__setattr__(service, "planner", None)
    client = TestClient(create_app(service), raise_server_exceptions=False)
    reply = client.post("/v1/completions", json={"model": "x", "prompt": "the"})
    assert reply.status_code == 500
    assert reply.json()["error"]["type"] == "server_error"
    assert "AttributeError" in reply.json()["error"]["message"]
