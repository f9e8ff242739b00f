"""The server as a process of its own: start, signals, exit status."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from inference.server.app import ServeOptions, serve
from tests.inference.server.conftest import wait_until

PROGRAM = """
import sys
from inference.server.app import ServeOptions, serve
serve(ServeOptions(checkpoint=sys.argv[1], port=0, shutdown_s=int(sys.argv[2])))
"""


@contextmanager
def process(checkpoint: Path, shutdown_s: int) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A started server and its address; killed at the end if it still runs."""
    command = [sys.executable, "-c", PROGRAM, str(checkpoint), str(shutdown_s)]
    environment = {**os.environ, "RAMIFY_API_KEY": "secret"}
    with tempfile.NamedTemporaryFile("r") as log:
        with open(log.name, "w") as sink:
            server = subprocess.Popen(command, env=environment, stderr=sink)
        try:
            wait_until(lambda: is_healthy(address(log.name)), timeout_s=60)
            yield server, address(log.name)
        finally:
            server.kill()
            server.wait()


def address(log: str) -> str:
    """Where the server says that it is."""
    match = re.search(r"Serving tiny-llama on (http://127.0.0.1:\d+)/v1", Path(log).read_text())
    return match.group(1) if match else "http://127.0.0.1:1"


def is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def stream_through_signal(
    server: subprocess.Popen[bytes], url: str, number: int, num_answers: int
) -> list[str]:
    """Events that still come after a signal sent at the first one."""
    body = {
        "model": "tiny-llama", "prompt": "the", "max_tokens": 480, "n": num_answers, "seed": 1,
        "stream": True,
    }  # fmt: skip
    headers = {"Authorization": "Bearer secret"}
    with httpx.stream(
        "POST", f"{url}/v1/completions", json=body, headers=headers, timeout=60
    ) as reply:
        lines = (line for line in reply.iter_lines() if line)
        assert next(lines).startswith("data: {")
        server.send_signal(number)
        return list(lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_running_stream_finish_and_the_exit_status_is_0(
    checkpoint: Path, number: int
) -> None:
    with process(checkpoint, shutdown_s=30) as (server, url):
        events = stream_through_signal(server, url, number, num_answers=4)
        assert len(events) > 100
        assert events[-1] == "data: [DONE]"
        assert server.wait(20) == 0


def test_after_the_limit_streams_are_cut_and_the_exit_status_is_0(checkpoint: Path) -> None:
    with process(checkpoint, shutdown_s=1) as (server, url):
        start = time.monotonic()
        with pytest.raises(httpx.RemoteProtocolError):
            stream_through_signal(server, url, signal.SIGTERM, num_answers=128)
        assert server.wait(20) == 0
        assert time.monotonic() - start < 10.0


def test_a_port_in_use_is_refused_before_the_model_is_loaded(checkpoint: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port={port} cannot be used"):
            serve(ServeOptions(checkpoint=str(checkpoint), port=port))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 70000}, "port=70000"),
        ({"dtype": "int4"}, "dtype='int4'"),
        ({"max_kv_tokens": 0}, "max_kv_tokens=0"),
        ({"max_queue": 0}, "max_queue=0"),
        ({"shutdown_s": -1}, "shutdown_s=-1"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServeOptions(checkpoint="x", **options)  # type: ignore[arg-type]  # wrong on purpose


def test_the_model_is_named_after_its_folder_or_hub_id(checkpoint: Path) -> None:
    assert ServeOptions(checkpoint=f"{checkpoint}/").served_name == "tiny-llama"
    assert ServeOptions(checkpoint="org/model").served_name == "org/model"
    assert ServeOptions(checkpoint="org/model", model_name="mine").served_name == "mine"
