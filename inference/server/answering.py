"""From a planned request to its HTTP response: queueing, streaming, clients that go away."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope
from starlette.types import Send as AsgiSend

from inference.server.errors import ApiError, engine_down, engine_failed, queue_full
from inference.server.jobs import Plan
from inference.server.replies import Answer, Envelope, Format, Json, usage
from inference.server.scheduler import Delta, Failure, QueueFull, Scheduler, SchedulerDown

_CLIENT_CLOSED_REQUEST = 499  # for the log; nobody is left to read it


class Inbox:
    """Carries the events of one request from the engine thread to the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Delta | Failure] = asyncio.Queue()

    def put(self, event: Delta | Failure) -> None:
        """Called in the engine thread."""
        with suppress(RuntimeError):  # the loop is closed: the server has ended, nobody waits
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def deltas(self, num_answers: int) -> AsyncIterator[Delta]:
        """All deltas, until every answer has ended.

        Raises:
            ApiError: the engine gave up the request.
        """
        while num_answers:
            event = await self._events.get()
            if isinstance(event, Failure):
                raise engine_failed(event.message)
            num_answers -= event.finish is not None
            yield event


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request on its way to an answer."""

    plan: Plan
    inbox: Inbox
    style: Format
    envelope: Envelope
    include_usage: bool

    def usage(self, num_drawn: int) -> Json:
        """Token counts once `num_drawn` tokens are drawn."""
        return usage(self.plan.num_prompt_tokens, num_drawn)


def enqueue(scheduler: Scheduler, plan: Plan) -> None:
    """Queue the jobs of a request.

    Raises:
        ApiError: 429 when the queue is full, 503 when the engine does not run.
    """
    try:
        scheduler.submit(plan.jobs)
    except QueueFull as error:
        raise queue_full(str(error)) from error
    except SchedulerDown as error:
        raise engine_down(str(error)) from error


def stream(exchange: Exchange) -> StreamingResponse:
    """The answer as server-sent events."""
    return _CancellingStream(_events(exchange), exchange.plan.cancelled)


async def whole(request: Request, exchange: Exchange) -> Response:
    """The complete answer; given up as soon as the client is gone."""
    collecting = asyncio.create_task(_collect(exchange))
    leaving = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({collecting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not collecting.done():
            return Response(status_code=_CLIENT_CLOSED_REQUEST)
        return JSONResponse(collecting.result())
    finally:
        exchange.plan.cancelled.set()
        collecting.cancel()
        leaving.cancel()


class _CancellingStream(StreamingResponse):
    """Cancels the jobs however the response ends: sent, client gone, server stopped."""

    def __init__(self, events: AsyncIterator[str], cancelled: threading.Event) -> None:
        super().__init__(
            events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
        )
        self._cancelled = cancelled

    async def __call__(self, scope: Scope, receive: Receive, send: AsgiSend) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._cancelled.set()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _collect(exchange: Exchange) -> Json:
    answers = [Answer() for _ in range(exchange.plan.num_answers)]
    async for delta in exchange.inbox.deltas(len(answers)):
        answers[delta.index].add(delta)
    choices = [exchange.style.choice(index, answer) for index, answer in enumerate(answers)]
    counts = exchange.usage(sum(len(answer.tokens) for answer in answers))
    return exchange.envelope.body(exchange.style.whole, choices, counts)


async def _events(exchange: Exchange) -> AsyncIterator[str]:
    """Server-sent events; an engine failure in the middle is an event with an error object."""
    try:
        async for body in _chunks(exchange):
            yield _event(json.dumps(body))
    except ApiError as error:
        yield _event(json.dumps(error.body()))
    else:
        yield _event("[DONE]")


async def _chunks(exchange: Exchange) -> AsyncIterator[Json]:
    style, envelope = exchange.style, exchange.envelope
    num_answers, num_drawn = exchange.plan.num_answers, 0
    for index in range(num_answers):
        if (opening := style.opening(index)) is not None:
            yield envelope.body(style.chunk, [opening])
    unsent = [Answer() for _ in range(num_answers)]
    async for delta in exchange.inbox.deltas(num_answers):
        num_drawn += len(delta.tokens)
        answer = unsent[delta.index]
        answer.add(delta)
        if answer.text or answer.finish:
            yield envelope.body(style.chunk, [style.delta(delta.index, answer)])
            unsent[delta.index] = Answer()
    if exchange.include_usage:
        yield envelope.body(style.chunk, [], exchange.usage(num_drawn))


def _event(data: str) -> str:
    return f"data: {data}\n\n"
