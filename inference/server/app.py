"""The HTTP server: addresses of the OpenAI API over the engine that training uses.

    POST /v1/completions, POST /v1/chat/completions, GET /v1/models, GET /health

Decoding is plain. The event loop tokenises and formats; the engine runs in a thread of its own
(scheduler.py). A client that goes away cancels its answers; their KV is freed at the next turn.
"""

from __future__ import annotations

import hmac
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from inference.engine import Engine
from inference.server import answering
from inference.server.answering import Exchange, Inbox
from inference.server.errors import ApiError, install_handlers, unknown_model
from inference.server.jobs import Limits, Plan, Planner
from inference.server.loading import (
    DTYPES,
    check_folder,
    context_tokens,
    load_policy,
    pick_device,
    stop_token_ids,
)
from inference.server.replies import ChatFormat, CompletionFormat, Envelope, Format, Json
from inference.server.scheduler import Scheduler
from inference.server.schema import ChatBody, CompletionBody, GenerationFields

API_KEY_VARIABLE = "RAMIFY_API_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Options of `ramify serve`."""

    checkpoint: str
    """Folder with config.json, weights and tokenizer, or a hub id."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all interfaces."""
    port: int = 8000
    """Port to listen on; 0 picks a free one."""
    dtype: str = "auto"
    """Dtype of the weights: auto (as stored), float32, bfloat16, float16."""
    device: str = "auto"
    """Torch device; auto takes the GPU if there is one."""
    max_kv_tokens: int = 65536
    """Tokens of KV that running requests may reserve together: prompt + n * max_tokens each."""
    model_name: str | None = None
    """Name in the API; None: the name of the folder, or the hub id."""
    max_queue: int = 256
    """Prompts that may wait; beyond that requests get 429."""
    max_new_tokens: int = 4096
    """Tokens that one answer may have at most."""
    shutdown_s: int = 30
    """Seconds that running requests have to finish after SIGTERM or Ctrl-C."""
    api_key: str | None = None
    """Key that clients must send; None: the variable RAMIFY_API_KEY, and no key if that is unset."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port={self.port} is outside 0..65535; 0 picks a free one")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype={self.dtype!r} is unknown; use one of {', '.join(DTYPES)}")
        for name in ("max_kv_tokens", "max_queue", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.shutdown_s < 0:
            raise ValueError(
                f"shutdown_s={self.shutdown_s} is negative; 0 cuts requests off at once"
            )

    @property
    def served_name(self) -> str:
        """Name of the model in the API."""
        folder = Path(self.checkpoint)
        return self.model_name or (folder.resolve().name if folder.exists() else self.checkpoint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the routes need."""

    scheduler: Scheduler
    planner: Planner
    model_name: str
    api_key: str | None = None
    """None: every client is served."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of tokens, special tokens removed."""
        return decode_text(self.planner.tokenizer, token_ids)


def serve(options: ServeOptions) -> None:
    """Serve a checkpoint until SIGTERM or Ctrl-C; running requests are finished first.

    Raises:
        ValueError: the checkpoint, the device or the port cannot be used.
    """
    check_folder(options.checkpoint)
    pick_device(options.device)
    with _bound_socket(options.host, options.port) as bound:
        model, tokenizer = load_policy(options.checkpoint, options.dtype, options.device)
        service = build_service(model, tokenizer, options)
        config = uvicorn.Config(
            create_app(service), timeout_graceful_shutdown=options.shutdown_s, ws="none"
        )
        host, port = bound.getsockname()[:2]
        # Made by Config, so that it has a handler; uvicorn is silent about sockets it is given.
        log = logging.getLogger("uvicorn.error")
        log.info("Serving %s on http://%s:%d/v1 (Ctrl-C to stop)", service.model_name, host, port)
        with _quiet_signals(), service.scheduler.running():
            uvicorn.Server(config).run(sockets=[bound])


def build_service(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, options: ServeOptions
) -> Service:
    """The service of a loaded model; its scheduler is not running yet."""
    limits = Limits(
        context_tokens=context_tokens(model),
        vocab_size=int(model.config.get_text_config().vocab_size),
        max_new_tokens=options.max_new_tokens,
        max_kv_tokens=options.max_kv_tokens,
    )
    scheduler = Scheduler(
        Engine(model),
        decode=partial(decode_text, tokenizer),
        stop_token_ids=stop_token_ids(model, tokenizer),
        max_kv_tokens=options.max_kv_tokens,
        max_queue=options.max_queue,
    )
    return Service(
        scheduler=scheduler,
        planner=Planner(tokenizer, limits),
        model_name=options.served_name,
        api_key=options.api_key or os.environ.get(API_KEY_VARIABLE) or None,
    )


def create_app(service: Service) -> FastAPI:
    """The application; the scheduler must be running while it is used."""
    app = FastAPI(title="ramify", docs_url=None, redoc_url=None)
    install_handlers(app)
    api = APIRouter(prefix="/v1", dependencies=[Depends(partial(_check_key, service.api_key))])

    @api.get("/models")
    async def models() -> Json:
        entry = {
            "id": service.model_name,
            "object": "model",
            "created": started,
            "owned_by": "ramify",
        }
        return {"object": "list", "data": [entry]}

    @api.post("/completions")
    async def completions(request: Request, body: CompletionBody) -> Response:
        _check_model(service, body)
        inbox = Inbox()
        plan = service.planner.completion(body, inbox.put)
        style = CompletionFormat(service.decode, body.logprobs)
        return await _answer(service, request, body, _exchange(service, body, plan, inbox, style))

    @api.post("/chat/completions")
    async def chat_completions(request: Request, body: ChatBody) -> Response:
        _check_model(service, body)
        inbox = Inbox()
        plan = service.planner.chat(body, inbox.put)
        style = ChatFormat(service.decode, body.logprobs)
        return await _answer(service, request, body, _exchange(service, body, plan, inbox, style))

    @app.get("/health")
    async def health() -> Response:
        return _health(service.scheduler)

    started = int(time.time())
    app.include_router(api)
    return app


def decode_text(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """Text as the rewards of training see it: special tokens removed, spaces untouched."""
    text = tokenizer.decode(
        list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return str(text)


def _exchange(
    service: Service, body: GenerationFields, plan: Plan, inbox: Inbox, style: Format
) -> Exchange:
    return Exchange(
        plan=plan,
        inbox=inbox,
        style=style,
        envelope=Envelope(id=style.new_id(), model=service.model_name, seed=plan.seed),
        include_usage=body.stream_options is not None and body.stream_options.include_usage,
    )


async def _answer(
    service: Service, request: Request, body: GenerationFields, exchange: Exchange
) -> Response:
    answering.enqueue(service.scheduler, exchange.plan)
    return answering.stream(exchange) if body.stream else await answering.whole(request, exchange)


def _check_model(service: Service, body: GenerationFields) -> None:
    if body.model != service.model_name:
        raise unknown_model(body.model, service.model_name)


def _check_key(expected: str | None, request: Request) -> None:
    given = request.headers.get("authorization", "")
    if expected is not None and not hmac.compare_digest(
        given.encode(), f"Bearer {expected}".encode()
    ):
        message = "the API key is missing or wrong; send it as Authorization: Bearer <key>"
        raise ApiError(401, message, code="invalid_api_key")


def _health(scheduler: Scheduler) -> Response:
    """200 with the load while requests can be served, 503 with the reason otherwise."""
    reason, load = scheduler.down_reason, scheduler.load
    counts = {"waiting": load.waiting, "running": load.running, "kv_bytes": load.kv_bytes}
    if reason is None:
        return JSONResponse({"status": "ok", **counts})
    return JSONResponse({"status": "down", "reason": reason, **counts}, status_code=503)


@contextmanager
def _bound_socket(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that owns the address; clients are refused until the server listens on it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, port))
        except OSError as error:
            message = f"host={host} port={port} cannot be used: {error.strerror}; choose another"
            raise ValueError(message) from error
        yield bound


@contextmanager
def _quiet_signals() -> Iterator[None]:
    """Let the process end normally: uvicorn raises a signal again after it has shut down for it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.signal(number, _ignore) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _ignore(number: int, frame: FrameType | None) -> None:
    pass
