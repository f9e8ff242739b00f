"""Rewards that misbehave on command: the completion says how."""

from __future__ import annotations

import os
import signal
import time

from rewards.base import Sample, Score, Verdict


def _right(detail: str) -> Score:
    return Score(value=1.0, verdict=Verdict.CORRECT, detail=detail)


def _hang_in_python() -> Score:
    while True:
        pass


def _hang_in_c() -> Score:
    return _right(str((3 ** (10**10)).bit_length()))


def _use_up_memory() -> Score:
    hoard = []
    while True:
        hoard.append(bytearray(1 << 26))


def _print_garbage() -> Score:
    print("garbage on standard output", flush=True)
    os.write(1, b"\xff\xff\xff\xff more garbage")
    return _right("printed")


def _corrupt_every_pipe() -> Score:
    for fd in range(3, 16):
        try:
            os.write(fd, b"\xff\xff\xff\xff nonsense")
        except OSError:
            continue
    time.sleep(60)
    return _right("never")


def _die() -> Score:
    os.kill(os.getpid(), signal.SIGKILL)
    return _right("never")


def _raise() -> Score:
    raise KeyError("missing column")


def _ignore_termination() -> Score:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return _hang_in_python()


def _return_nan() -> Score:
    return Score(value=float("nan"), verdict=Verdict.CORRECT)


_ACTS = {
    "hang": _hang_in_python,
    "hang_in_c": _hang_in_c,
    "memory": _use_up_memory,
    "print": _print_garbage,
    "corrupt": _corrupt_every_pipe,
    "die": _die,
    "raise": _raise,
    "stubborn": _ignore_termination,
    "nan": _return_nan,
}


class Hostile:
    """Does what the first word of the completion names; any other text is its own detail."""

    name = "hostile"
    failure_value = -0.5

    def score(self, sample: Sample) -> Score:
        act = _ACTS.get(sample.completion.split(" ")[0])
        return act() if act else _right(sample.completion)


class Reporter:
    """Reports facts about the process it runs in."""

    name = "reporter"

    def score(self, sample: Sample) -> Score:
        import sys

        facts = {
            "pid": lambda: str(os.getpid()),
            "torch": lambda: str("torch" in sys.modules),
            "main": lambda: str(getattr(sys.modules["__main__"], "__file__", "none")),
            "rewards": lambda: str(sys.modules["rewards"].__file__),
            "cwd": lambda: str(os.listdir(".")),
            "reference": lambda: repr(sample.reference),
        }
        return _right(facts[sample.completion]())


class NotAScoreReward:
    """Returns a plain number by mistake."""

    name = "not_a_score"

    def score(self, sample: Sample) -> float:
        return 1.0


class InProcess(Hostile):
    """Asks to stay in the training process."""

    in_process = True


class Unpicklable:
    """Holds an open file."""

    name = "unpicklable"

    def __init__(self) -> None:
        self.file = open(os.devnull)  # noqa: SIM115 - the point of this class

    def score(self, sample: Sample) -> Score:
        return _right("")
