"""The child process of the reward pool: loads rewards, scores samples, may be killed at any time.

It is started by rewards/worker_process.py with an explicit module search path and never imports the
training script. Standard output is sent to the null device before any reward is loaded, so a reward
that prints cannot disturb the protocol. Requests and replies are JSON objects (rewards/channel.py):

    {"op": "load", "key", "reward"}               -> {"ok": true} or {"error": text}
    {"op": "score", "key", "sample", "timeout_s"} -> {"value", "verdict", "parts", "detail"}
"""

from __future__ import annotations

import base64
import contextlib
import os
import pickle
import resource
import signal
import sys
from typing import Any

from rewards.base import Reward, Sample, Score, Verdict
from rewards.channel import ChannelBroken, receive, send

_RECURSION_LIMIT = 3000
_DETAIL_CHARS = 300

Message = dict[str, Any]  # decoded JSON


def main(memory_bytes: int) -> None:
    """Serves requests until the parent closes the pipe."""
    requests, replies = _take_over_standard_streams()
    _limit_resources(memory_bytes)
    send(replies, {"ok": True})
    _silence(2)
    rewards: dict[str, Reward] = {}
    with contextlib.suppress(ChannelBroken):  # the parent is gone
        while True:
            send(replies, _answer(receive(requests), rewards))


def _answer(request: Message, rewards: dict[str, Reward]) -> Message:
    if request["op"] == "load":
        return _load(request, rewards)
    _arm(request["timeout_s"])
    try:
        return _scored(rewards[request["key"]], request["sample"])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _load(request: Message, rewards: dict[str, Reward]) -> Message:
    try:
        reward = pickle.loads(base64.b64decode(request["reward"]))
        getattr(reward, "warm_up", lambda: None)()
    except Exception as error:  # boundary: whatever a user's module does at import is reported
        return {"error": f"{type(error).__name__}: {error}"[:_DETAIL_CHARS]}
    rewards[request["key"]] = reward
    return {"ok": True}


def _scored(reward: Reward, sample: Message) -> Message:
    try:
        score = reward.score(Sample(**sample))
        if not isinstance(score, Score):
            raise TypeError(f"score returned {type(score).__name__}, not a rewards.base.Score")
        value = None if score.value is None else float(score.value)
        parts = {str(name): float(part) for name, part in score.parts.items()}
    except Exception as error:  # boundary: a verifier failure is data
        detail = f"{type(error).__name__}: {error}"[:_DETAIL_CHARS]
        return {"value": None, "verdict": Verdict.CRASHED, "parts": {}, "detail": detail}
    return {"value": value, "verdict": score.verdict, "parts": parts, "detail": str(score.detail)}


def _take_over_standard_streams() -> tuple[int, int]:
    """Moves the protocol to private descriptors; prints of a reward then go nowhere."""
    requests, replies = os.dup(0), os.dup(1)
    _silence(0)
    _silence(1)
    return requests, replies


def _silence(fd: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, fd)
    os.close(null)


def _limit_resources(memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.setrecursionlimit(_RECURSION_LIMIT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _arm(timeout_s: float) -> None:
    """Lets the kernel end this process when nobody else does: the parent may have been killed.

    The alarm has no Python handler, so it also ends a call that hangs in C; the processor limit
    holds when a reward takes the alarm for itself.
    """
    limit_s = 2 * timeout_s + 2
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(usage.ru_utime + usage.ru_stime + limit_s) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))
