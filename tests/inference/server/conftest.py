"""A tiny random Llama with a byte-level tokenizer, saved as a checkpoint, and servers over it."""

from __future__ import annotations

import copy
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest
import torch
import uvicorn
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from inference.server.app import ServeOptions, Service, build_service, create_app
from inference.server.loading import load_policy

TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'developer' %}"
    "{{ raise_exception('no developer here') }}{% endif %}"
    "<{{ m['role'] }}>{{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
CONTEXT = 512


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with a few merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<eos>", "<user>", "<assistant>", "<system>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the cat sat on the mat; the hat of the cat"] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", chat_template=TEMPLATE
    )


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-llama"
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


Policy = tuple[PreTrainedModel, PreTrainedTokenizerBase]


@pytest.fixture(scope="session")
def policy(checkpoint: Path) -> Policy:
    """Give every engine a copy of the model: two sessions cannot share one."""
    return load_policy(str(checkpoint), device="cpu")


@dataclass(frozen=True)
class RunningServer:
    """A server that listens, and what tests need of it."""

    service: Service
    url: str

    @property
    def client(self) -> openai.OpenAI:
        """The official client."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="key", max_retries=0, timeout=60)

    def post(self, path: str, body: object) -> httpx.Response:
        """A raw request, for bodies that the client would not send."""
        return httpx.post(f"{self.url}{path}", json=body, timeout=60)

    def health(self) -> dict[str, object]:
        """The health report."""
        report: dict[str, object] = httpx.get(f"{self.url}/health").json()
        return report


MakeServer = Callable[..., AbstractContextManager[RunningServer]]


@pytest.fixture(scope="session")
def make_server(checkpoint: Path, policy: Policy) -> MakeServer:
    @contextmanager
    def make(**options: object) -> Iterator[RunningServer]:
        settings = ServeOptions(checkpoint=str(checkpoint), port=0, **options)  # type: ignore[arg-type]  # any option
        model, tokenizer = policy
        service = build_service(copy.deepcopy(model), tokenizer, settings)
        server = uvicorn.Server(uvicorn.Config(create_app(service), log_level="warning"))
        with socket.create_server(("127.0.0.1", 0)) as bound, service.scheduler.running():
            thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
            thread.start()
            try:
                wait_until(lambda: server.started)
                yield RunningServer(service, f"http://127.0.0.1:{bound.getsockname()[1]}")
            finally:
                server.should_exit = True
                thread.join(30)

    return make


@pytest.fixture(scope="session")
def server(make_server: MakeServer) -> Iterator[RunningServer]:
    with make_server() as running:
        yield running


def wait_until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Poll until the condition holds."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the condition did not become true in time"
        time.sleep(0.01)
