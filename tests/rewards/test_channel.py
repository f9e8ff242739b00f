from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from rewards.channel import ChannelBroken, ChannelTimeout, receive, send


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            continue


@pytest.mark.parametrize(
    "message", [None, 1.5, "\ud800 \U0001f600", {"a": [1, None]}, "x" * 500_000]
)
def test_a_message_arrives_as_it_was_sent(pipe: tuple[int, int], message: object) -> None:
    reader, writer = pipe
    sender = threading.Thread(target=send, args=(writer, message))
    sender.start()
    assert receive(reader, time.monotonic() + 10) == message
    sender.join()


def test_a_silent_writer_is_a_timeout_also_in_the_middle_of_a_message(
    pipe: tuple[int, int],
) -> None:
    reader, writer = pipe
    os.write(writer, b"\x00\x00\x00\x09half")
    with pytest.raises(ChannelTimeout):
        receive(reader, time.monotonic() + 0.05)


def test_a_reader_that_does_not_read_is_a_timeout(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    with pytest.raises(ChannelTimeout):
        send(pipe[1], "x" * 1_000_000, time.monotonic() + 0.05)


@pytest.mark.parametrize(
    "garbage", [b"", b"\x00\x00", b"\xff\xff\xff\xffabc", b"\x00\x00\x00\x03abc"]
)
def test_garbage_and_end_of_file_are_a_broken_channel(
    pipe: tuple[int, int], garbage: bytes
) -> None:
    reader, writer = pipe
    os.write(writer, garbage)
    os.close(writer)
    with pytest.raises(ChannelBroken):
        receive(reader, time.monotonic() + 5)


def test_a_reader_that_is_gone_is_a_broken_channel(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    with pytest.raises(ChannelBroken):
        send(pipe[1], "hello")
