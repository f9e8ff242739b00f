"""Length-prefixed JSON over a pair of file descriptors, with deadlines.

A message is four bytes (length, big endian) and that many bytes of ASCII JSON. Both ends use the
same two functions; only the parent passes deadlines.
"""

from __future__ import annotations

import json
import os
import select
import time
from typing import Any

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_PREFIX_BYTES = 4


class ChannelTimeout(TimeoutError):
    """The deadline passed before the message was complete."""


class ChannelBroken(ConnectionError):
    """The other end is gone, or what it sent is not a message."""


def send(fd: int, message: object, deadline: float | None = None) -> None:
    """Writes one message.

    Args:
        fd: Where to write; non-blocking when a deadline is given.
        message: Anything JSON can express.
        deadline: `time.monotonic()` value, None to wait for ever.

    Raises:
        ChannelTimeout: The deadline passed.
        ChannelBroken: The reader is gone.
    """
    body = json.dumps(message).encode("ascii")
    rest = memoryview(len(body).to_bytes(_PREFIX_BYTES, "big") + body)
    while rest:
        _wait(fd, select.POLLOUT, deadline)
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            continue
        except OSError as error:
            raise ChannelBroken("the reader is gone") from error


def receive(fd: int, deadline: float | None = None) -> Any:  # decoded JSON
    """Reads one message.

    Raises:
        ChannelTimeout: The deadline passed.
        ChannelBroken: End of file, or bytes that are not a message.
    """
    length = int.from_bytes(_read(fd, _PREFIX_BYTES, deadline), "big")
    if length > MAX_MESSAGE_BYTES:
        raise ChannelBroken(f"a message of {length} bytes was announced")
    try:
        return json.loads(_read(fd, length, deadline))
    except (ValueError, RecursionError) as error:
        raise ChannelBroken("the message is not JSON") from error


def _read(fd: int, num_bytes: int, deadline: float | None) -> bytes:
    chunks, missing = [], num_bytes
    while missing:
        _wait(fd, select.POLLIN, deadline)
        chunk = os.read(fd, min(missing, 1 << 20))
        if not chunk:
            raise ChannelBroken("end of file")
        chunks.append(chunk)
        missing -= len(chunk)
    return b"".join(chunks)


def _wait(fd: int, event: int, deadline: float | None) -> None:
    poller = select.poll()
    poller.register(fd, event)
    left_ms = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
    if not poller.poll(left_ms):
        raise ChannelTimeout("the deadline passed")
