"""The fakes themselves."""

from __future__ import annotations

import pytest

from inference.requests import SamplingParams, StopCause
from tests.fakes import FakeEngine, FakePath, ending_script, fake_logprob


def submit(engine: FakeEngine, path: FakePath, num: int = 4, key: int = 1) -> None:
    engine.submit(path, max_new_tokens=num, sampling=SamplingParams(), stop_token_ids=(0,), key=key)


def test_fake_engine_writes_the_same_for_the_same_key_and_input() -> None:
    engine = FakeEngine()
    first, second, third = engine.fork(engine.open([1, 2]), 3)
    submit(engine, first, key=1)
    submit(engine, second, key=1)
    submit(engine, third, key=2)
    segments = [segment for _, segment in engine.step()]
    assert segments[0] == segments[1] != segments[2]
    assert segments[0].logprobs == tuple(map(fake_logprob, segments[0].token_ids))
    assert first.token_ids == (1, 2, *segments[0].token_ids)


def test_fake_engine_cuts_after_a_stop_token_and_at_the_limit() -> None:
    engine = FakeEngine(script=lambda request: [5, 0, 6, 7, 8])
    path = engine.open([1])
    submit(engine, path)
    ((_, stopped),) = engine.step()
    assert (stopped.token_ids, stopped.cause) == ((5, 0), StopCause.STOP_TOKEN)
    submit(engine, path, num=1)
    ((_, cut),) = engine.step()
    assert (cut.token_ids, cut.cause) == ((5,), StopCause.LENGTH)
    assert [request.input_ids for request, _ in engine.log] == [(1,), (1, 5, 0)]


def test_fake_engine_counts_open_paths() -> None:
    engine = FakeEngine()
    root = engine.open([1])
    child, _ = engine.fork(root, 2)
    assert engine.num_open == 3
    engine.close(child)
    assert engine.num_open == 2
    with pytest.raises(AssertionError, match="closed twice"):
        engine.close(child)
    with pytest.raises(AssertionError, match="closed or running"):
        engine.fork(child, 1)


def test_fake_engine_closes_a_running_path_only_after_its_cancellation() -> None:
    engine = FakeEngine()
    path = engine.open([1])
    submit(engine, path)
    with pytest.raises(AssertionError, match="close of a running path"):
        engine.close(path)
    engine.cancel(path)
    engine.close(path)
    assert (engine.has_work, engine.num_open) == (False, 0)


def test_fake_engine_forks_at_an_earlier_token_of_the_response() -> None:
    engine = FakeEngine()
    path = engine.open([1, 2])
    submit(engine, path)
    engine.step()
    (child,) = engine.fork(path, 1, length=3)
    assert child.token_ids == path.token_ids[:3]
    with pytest.raises(AssertionError, match="outside the response"):
        engine.fork(path, 1, length=1)


def test_fake_engine_ends_requests_after_their_own_number_of_steps() -> None:
    engine = FakeEngine(one_token_per_step=True)
    short, long = engine.fork(engine.open([1]), 2)
    submit(engine, long, num=3)
    submit(engine, short, num=1)
    ended = [[path for path, _ in engine.step()] for _ in range(3)]
    assert ended == [[short], [], [long]]
    assert not engine.has_work


def test_fake_engine_notices_a_path_that_changed_under_its_request() -> None:
    engine = FakeEngine()
    path = engine.open([1])
    submit(engine, path)
    path.token_ids = (9,)
    with pytest.raises(AssertionError, match="changed under its request"):
        engine.step()


def test_fake_engine_fails_when_told() -> None:
    engine = FakeEngine(fail_at_step=1)
    submit(engine, engine.open([1]))
    with pytest.raises(RuntimeError, match="scripted failure"):
        engine.step()


def test_ending_script_ends_with_the_given_probability() -> None:
    engine = FakeEngine(script=ending_script(0, 0.25))
    num = 2000
    for key, path in enumerate(engine.fork(engine.open([1]), num)):
        submit(engine, path, num=1, key=key)
    num_ended = sum(segment.token_ids == (0,) for _, segment in engine.step())
    assert abs(num_ended / num - 0.25) < 5 * (0.25 * 0.75 / num) ** 0.5  # 5 standard deviations
