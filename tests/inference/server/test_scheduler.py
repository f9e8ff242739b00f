from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from queue import Queue

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from inference.engine import Engine, Path
from inference.philox import path_key
from inference.requests import DecodedSegment, SamplingParams
from inference.server.scheduler import (
    Delta,
    Failure,
    Finish,
    Job,
    QueueFull,
    Scheduler,
    SchedulerDown,
)

Policy = tuple[PreTrainedModel, PreTrainedTokenizerBase]
EOS = 0
PROMPT = (70, 71, 72, 73)


class GatedEngine(Engine):
    """Steps only while the gate is open; can be told to fail."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        self.gate = threading.Event()
        self.failure: Exception | None = None

    def step(self) -> list[tuple[Path, DecodedSegment]]:
        self.gate.wait(20)
        if self.failure is not None:
            raise self.failure
        return super().step()


@pytest.fixture
def engine(policy: Policy) -> GatedEngine:
    engine = GatedEngine(copy.deepcopy(policy[0]))
    engine.gate.set()
    return engine


@pytest.fixture
def scheduler(engine: GatedEngine, policy: Policy) -> Iterator[Scheduler]:
    scheduler = make_scheduler(engine, policy)
    with scheduler.running():
        yield scheduler
        engine.gate.set()


def make_scheduler(engine: Engine, policy: Policy) -> Scheduler:
    return Scheduler(
        engine,
        decode=lambda ids: str(policy[1].decode(list(ids), skip_special_tokens=True)),
        stop_token_ids=(EOS,),
        max_kv_tokens=100,
        max_queue=2,
    )


class Collected:
    """Events of one job and what they add up to."""

    def __init__(self) -> None:
        self.events: Queue[Delta | Failure] = Queue()

    def deltas(self, num_answers: int = 1) -> list[Delta]:
        deltas: list[Delta] = []
        while num_answers:
            event = self.events.get(timeout=20)
            assert isinstance(event, Delta)
            deltas.append(event)
            num_answers -= event.finish is not None
        return deltas

    def failure(self) -> str:
        event = self.events.get(timeout=20)
        assert isinstance(event, Failure)
        return event.message


def make_job(sink: Collected, **changes: object) -> Job:
    fields: dict[str, object] = {
        "prompt_ids": PROMPT,
        "keys": (path_key(1, 0),),
        "max_new_tokens": 20,
        "sampling": SamplingParams(),
        "send": sink.events.put,
    }
    return Job(**{**fields, **changes})  # type: ignore[arg-type]  # any field


def decode_directly(policy: Policy, keys: tuple[int, ...], num: int) -> list[DecodedSegment]:
    """One long request per answer on a fresh engine."""
    engine = Engine(copy.deepcopy(policy[0]))
    with engine.session():
        paths = engine.fork(engine.open(PROMPT), len(keys))
        return engine.decode(
            paths, max_new_tokens=num, sampling=SamplingParams(), stop_token_ids=(EOS,), keys=keys
        )


@pytest.mark.parametrize("turn_tokens", [1, 3, 8, 50])
def test_answers_equal_one_long_request_whatever_the_length_of_a_turn(
    scheduler: Scheduler, policy: Policy, turn_tokens: int
) -> None:
    keys = tuple(path_key(1, index) for index in range(3))
    sink = Collected()
    scheduler.submit([make_job(sink, keys=keys, turn_tokens=turn_tokens)])
    deltas = sink.deltas(num_answers=3)
    for index, segment in enumerate(decode_directly(policy, keys, 20)):
        tokens = [token for d in deltas if d.index == index for token in d.tokens]
        assert tuple(token.id for token in tokens) == segment.token_ids
        # another packing of the same products, float32
        assert [token.logprob for token in tokens] == pytest.approx(segment.logprobs, abs=1e-5)


def test_a_stop_string_ends_the_answer_at_its_token_whatever_the_length_of_a_turn(
    scheduler: Scheduler, policy: Policy
) -> None:
    (segment,) = decode_directly(policy, (path_key(1, 0),), 20)
    text = str(policy[1].decode(list(segment.token_ids), skip_special_tokens=True))
    stop = text[6:9]
    seen = set()
    for turn_tokens in (1, 8):
        sink = Collected()
        scheduler.submit([make_job(sink, stop=(stop,), turn_tokens=turn_tokens)])
        deltas = sink.deltas()
        num_tokens = sum(len(delta.tokens) for delta in deltas)
        seen.add(("".join(delta.text for delta in deltas), num_tokens, deltas[-1].finish))
    assert seen == {(text[: text.index(stop)], num_tokens, Finish.STOP)}
    assert num_tokens < 20


def test_a_stop_token_is_counted_but_has_no_text(engine: GatedEngine, policy: Policy) -> None:
    (segment,) = decode_directly(policy, (path_key(1, 0),), 20)
    ending = segment.token_ids[4]
    assert ending not in segment.token_ids[:4]
    scheduler = Scheduler(
        engine,
        decode=lambda ids: "".join(f"[{token}]" for token in ids),
        stop_token_ids=(ending,),
        max_kv_tokens=100,
        max_queue=2,
    )
    sink = Collected()
    with scheduler.running():
        scheduler.submit([make_job(sink)])
        (delta,) = sink.deltas()
    assert delta.finish is Finish.STOP
    assert tuple(token.id for token in delta.tokens) == segment.token_ids[:5]
    texts = [f"[{token}]" for token in segment.token_ids[:4]]
    assert delta.text == "".join(texts)
    assert [token.offset for token in delta.tokens] == [len("".join(texts[:i])) for i in range(5)]


def test_nothing_is_held_once_all_answers_have_ended(
    scheduler: Scheduler, engine: GatedEngine
) -> None:
    sink = Collected()
    scheduler.submit([make_job(sink, keys=(1, 2)), make_job(sink, keys=(3,))])
    sink.deltas(num_answers=3)
    wait_for_idle(scheduler)
    assert (scheduler.load.kv_bytes, engine.num_open_paths) == (0, 0)


def test_a_cancelled_job_frees_its_kv_and_sends_nothing_more(
    scheduler: Scheduler, engine: GatedEngine
) -> None:
    sink, cancelled = Collected(), threading.Event()
    engine.gate.clear()
    scheduler.submit([make_job(sink, max_new_tokens=90, cancelled=cancelled)])
    cancelled.set()
    engine.gate.set()
    wait_for_idle(scheduler)
    assert scheduler.load.kv_bytes == 0
    assert sink.events.empty()


def test_jobs_wait_until_their_reservation_fits_and_the_queue_is_bounded(
    scheduler: Scheduler, engine: GatedEngine
) -> None:
    engine.gate.clear()
    sink = Collected()
    big = {"max_new_tokens": 90, "sampling": SamplingParams(temperature=0.0)}
    scheduler.submit([make_job(sink, **big)])
    wait_for_waiting(scheduler, 0)
    scheduler.submit([make_job(sink), make_job(sink)])
    with pytest.raises(QueueFull, match="2 prompts are waiting"):
        scheduler.submit([make_job(sink)])
    engine.gate.set()
    sink.deltas(num_answers=3)


def test_jobs_given_up_while_waiting_make_room_in_the_queue(
    scheduler: Scheduler, engine: GatedEngine
) -> None:
    engine.gate.clear()
    sink, cancelled = Collected(), threading.Event()
    scheduler.submit([make_job(sink, max_new_tokens=90)])
    wait_for_waiting(scheduler, 0)
    scheduler.submit([make_job(sink, max_new_tokens=90)])
    scheduler.submit([make_job(sink, cancelled=cancelled)])
    cancelled.set()
    engine.gate.set()
    wait_for_waiting(scheduler, 1)
    scheduler.submit([make_job(sink)])
    sink.deltas(num_answers=3)


def test_a_failure_of_the_engine_reaches_every_job_and_refuses_new_ones(
    scheduler: Scheduler, engine: GatedEngine
) -> None:
    engine.gate.clear()
    running, waiting = Collected(), Collected()
    scheduler.submit([make_job(running, keys=(1, 2))])
    scheduler.submit([make_job(waiting, max_new_tokens=90)])
    engine.failure = FloatingPointError("NaN logits")
    engine.gate.set()
    assert "FloatingPointError: NaN logits" in running.failure()
    assert "FloatingPointError: NaN logits" in waiting.failure()
    assert running.events.empty()
    with pytest.raises(SchedulerDown, match="NaN logits"):
        scheduler.submit([make_job(running)])


def test_at_the_end_running_and_waiting_jobs_hear_of_it(
    engine: GatedEngine, policy: Policy
) -> None:
    scheduler, sink = make_scheduler(engine, policy), Collected()
    with scheduler.running():
        engine.gate.clear()
        scheduler.submit([make_job(sink, max_new_tokens=90)])
        scheduler.submit([make_job(sink, max_new_tokens=90)])
        threading.Timer(0.2, engine.gate.set).start()
    failures = [event for event in sink.events.queue if isinstance(event, Failure)]
    assert [failure.message for failure in failures] == ["the server is shutting down"] * 2
    assert engine.num_open_paths == 0


def wait_for_idle(scheduler: Scheduler) -> None:
    while scheduler.load.running or scheduler.load.waiting:
        threading.Event().wait(0.01)


def wait_for_waiting(scheduler: Scheduler, num: int) -> None:
    while scheduler.load.waiting > num:
        threading.Event().wait(0.001)
