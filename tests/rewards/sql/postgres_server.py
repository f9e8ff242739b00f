"""Starts a real PostgreSQL server for tests: own data folder, free port, removed afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_DEBIAN = Path("/usr/lib/postgresql")
_OPTIONS = "-c fsync=off -c full_page_writes=off -c shared_buffers=32MB -c max_connections=60"


def missing() -> str:
    """Why no server can be started, empty when one can."""
    if _programs() is None:
        return "no PostgreSQL server program found (Debian: apt-get install postgresql)"
    if os.geteuid() == 0 and _server_user() is None:
        return "a PostgreSQL server refuses to run as root and there is no user postgres or nobody"
    return ""


@contextmanager
def running_server() -> Iterator[str]:
    """URL of the administrator of a fresh server, which listens on the loopback interface only."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    programs, drop = _programs(), _drop_privileges()
    assert programs is not None
    try:
        if os.geteuid() == 0 and (user := _server_user()) is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        data, port = folder / "data", _free_port()
        _call(drop, programs / "initdb", "-D", data, "-U", "admin", "-A", "trust", "-E", "UTF8", "-N",
              "--locale=C")  # fmt: skip
        options = f"{_OPTIONS} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -p {port}"
        log = folder / "log"
        _call(drop, programs / "pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")
        try:
            yield f"postgresql+psycopg://admin@127.0.0.1:{port}/postgres"
        finally:
            _call(drop, programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    found = sorted(_DEBIAN.glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


def _server_user() -> pwd.struct_passwd | None:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


def _drop_privileges() -> Callable[[], None] | None:
    user = _server_user()
    if os.geteuid() != 0 or user is None:
        return None

    def become() -> None:
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)

    return become


def _call(drop: Callable[[], None] | None, *command: object) -> None:
    arguments = [str(part) for part in command]
    done = subprocess.run(
        arguments, preexec_fn=drop, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL, timeout=120, check=False,
    ) if "start" not in arguments else _start(arguments, drop)  # fmt: skip
    if done.returncode:
        output = (done.stdout or b"").decode("utf-8", "replace")[-2000:]
        raise RuntimeError(f"{arguments[0]} failed with {done.returncode}:\n{output}")


def _start(
    arguments: list[str], drop: Callable[[], None] | None
) -> subprocess.CompletedProcess[bytes]:
    """The server inherits the streams of the command, so they must not be pipes."""
    null = subprocess.DEVNULL
    return subprocess.run(
        arguments, preexec_fn=drop, cwd="/", stdin=null, stdout=null, stderr=null, timeout=120,
        check=False,
    )  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
