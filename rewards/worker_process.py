"""The parent's handle on one worker: start, ask with a deadline, kill."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rewards.channel import ChannelBroken, ChannelTimeout, receive, send

# The package is pinned by path before anything else is imported: another distribution may install a
# package of the same name, and a user's script may stand next to a file rewards.py.
_BOOTSTRAP = """
import importlib.util, json, sys
paths, package, memory_bytes = json.loads(sys.argv[1])
sys.path[:] = paths
spec = importlib.util.spec_from_file_location(
    "rewards", package + "/__init__.py", submodule_search_locations=[package])
sys.modules["rewards"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["rewards"])
from rewards.worker import main
main(memory_bytes)
"""
_PACKAGE = Path(__file__).resolve().parent


class WorkerDied(RuntimeError):
    """The worker process ended or broke the protocol; `str()` is a short machine-readable cause."""


class WorkerProcess:
    """One child interpreter in a process group of its own.

    Args:
        memory_bytes: Address-space limit of the child.
        directory: Working directory of the child; should be empty.
        start_timeout_s: Seconds until the interpreter must have reported.

    Raises:
        RuntimeError: The interpreter did not start; the message holds the end of its error output.
    """

    def __init__(self, memory_bytes: int, directory: str, start_timeout_s: float) -> None:
        self.loaded: set[str] = set()
        with tempfile.TemporaryFile() as errors:
            self._process = subprocess.Popen(
                _command(memory_bytes),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=directory,
                env=_environment(),
                bufsize=0,
                start_new_session=True,
            )
            assert self._process.stdin is not None and self._process.stdout is not None
            self._requests = self._process.stdin.fileno()
            self._replies = self._process.stdout.fileno()
            os.set_blocking(self._requests, False)
            try:
                receive(self._replies, time.monotonic() + start_timeout_s)
            except (ChannelTimeout, ChannelBroken) as error:
                self.kill()
                errors.seek(0)
                tail = errors.read()[-2000:].decode("utf-8", "replace")
                raise RuntimeError(f"a reward worker did not start: {error}\n{tail}") from error

    @property
    def pid(self) -> int:
        """Process id, which is also the process group."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """False once the process has ended."""
        return self._process.poll() is None

    def ask(self, request: object, timeout_s: float) -> Any:  # decoded JSON
        """Sends a request and returns the reply.

        Raises:
            ChannelTimeout: No complete reply in time; the worker must be killed.
            WorkerDied: It ended or answered with something else than a message; the same.
        """
        deadline = time.monotonic() + timeout_s
        try:
            send(self._requests, request, deadline)
            return receive(self._replies, deadline)
        except ChannelBroken as error:
            raise WorkerDied(self._cause(error)) from error

    def kill(self) -> None:
        """Kills the whole process group, waits for the child and closes the pipes."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self.abandon()

    def abandon(self) -> None:
        """Closes this process's ends of the pipes; after a fork the child must not hold them open."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _cause(self, error: Exception) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(timeout=0.5)
            return f"signal:{-code}" if code < 0 else f"exit:{code}"
        return f"protocol:{error}"


def _command(memory_bytes: int) -> list[str]:
    paths = [os.path.abspath(path) for path in sys.path]
    settings = json.dumps([paths, str(_PACKAGE), memory_bytes])
    return [sys.executable, "-P", "-s", "-c", _BOOTSTRAP, settings]


def _environment() -> dict[str, str]:
    """The parent's environment with what makes scores reproducible; one thread per worker."""
    dropped = ("PYTHONPATH", "PYTHONSTARTUP", "PYTHONINSPECT")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
