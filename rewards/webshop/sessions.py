"""Many sessions over one shop, by name: what a server of the simulator keeps.

A rollout that runs in the same process needs none of this: it holds `ShopState` values itself. A table
is for clients that hold only a name; sessions that nobody used for a while expire. All methods may be
called from many threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from rewards.webshop.goals import Goal
from rewards.webshop.shop import Admissible, Shop, ShopStep
from rewards.webshop.state import ShopState


class SessionGoneError(KeyError):
    """The session never was, was closed, or expired; reset to get a new one."""

    def __str__(self) -> str:
        return f"session {self.args[0]!r} does not exist, was closed or has expired; reset again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Answer to every call: where the session is and what it may do."""

    session: int
    """Name of the session."""
    step: ShopStep
    """Page, reward and state after the call."""
    admissible: Admissible
    """What the next action may be."""


@dataclass(frozen=True, slots=True)
class _Entry:
    state: ShopState
    used_s: float


class SessionTable:
    """Sessions by name.

    Args:
        shop: The shop that all sessions share.
        expiry_s: A session unused for so many seconds is dropped.
        clock: Seconds from any origin; tests pass their own.
    """

    def __init__(
        self, shop: Shop, expiry_s: float = 600.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not expiry_s > 0:
            raise ValueError(f"expiry_s={expiry_s} must be a positive number of seconds")
        self.shop = shop
        self._expiry_s = expiry_s
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[int, _Entry] = {}
        self._next = 0

    def __len__(self) -> int:
        with self._lock:
            self._drop_expired()
            return len(self._entries)

    def reset(self, goal: Goal) -> Reply:
        """A new session for a goal."""
        return self._reply(self._add(self.shop.start(goal)))

    def step(self, session: int, action: str) -> Reply:
        """Carries out one action.

        Raises:
            SessionGoneError: There is no such session.
        """
        with self._lock:
            step = self.shop.step(self._state(session), action)
            self._entries[session] = _Entry(step.state, self._clock())
        return self._reply(session, step)

    def fork(self, session: int) -> Reply:
        """A new session that goes on from where this one is; neither sees what the other does.

        Raises:
            SessionGoneError: There is no such session.
        """
        return self._reply(self._add(self.state(session)))

    def state(self, session: int) -> ShopState:
        """The state of a session.

        Raises:
            SessionGoneError: There is no such session.
        """
        with self._lock:
            return self._state(session)

    def close(self, session: int) -> None:
        """Forgets a session; closing twice is allowed."""
        with self._lock:
            self._entries.pop(session, None)

    def _add(self, state: ShopState) -> int:
        with self._lock:
            self._drop_expired()
            self._next += 1
            self._entries[self._next] = _Entry(state, self._clock())
            return self._next

    def _state(self, session: int) -> ShopState:
        self._drop_expired()
        if session not in self._entries:
            raise SessionGoneError(session)
        entry = replace(self._entries[session], used_s=self._clock())
        self._entries[session] = entry
        return entry.state

    def _drop_expired(self) -> None:
        oldest_s = self._clock() - self._expiry_s
        for session in [s for s, entry in self._entries.items() if entry.used_s < oldest_s]:
            del self._entries[session]

    def _reply(self, session: int, step: ShopStep | None = None) -> Reply:
        found = step or self.shop.resume(self.state(session))
        admissible = self.shop.admissible(found.state)
        return Reply(session=session, step=found, admissible=admissible)
