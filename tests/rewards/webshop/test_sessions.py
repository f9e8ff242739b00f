from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from rewards.webshop.sessions import SessionGoneError, SessionTable
from tests.rewards.webshop.toy_shop import LOTION, toy_shop, walk

SHOP = toy_shop()
GOAL = SHOP.catalogue.goals[0]
PURCHASE = ("search[lotion]", f"click[{LOTION}]", "click[lavender]", "click[buy now]")


class Clock:
    """A clock that tests set."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_session_answers_like_the_shop() -> None:
    table = SessionTable(SHOP)
    reply = table.reset(GOAL)
    assert reply.step.observation == SHOP.observe(SHOP.start(GOAL))
    assert reply.admissible.has_search_bar
    for end, action in enumerate(PURCHASE, start=1):
        reply = table.step(reply.session, action)
        assert reply.step.state == table.state(reply.session) == walk(SHOP, *PURCHASE[:end])
        assert reply.admissible == SHOP.admissible(reply.step.state)
    assert (reply.step.reward, reply.step.is_done) == (1.0, True)


def test_a_fork_goes_its_own_way() -> None:
    table = SessionTable(SHOP)
    first = table.step(table.reset(GOAL).session, "search[soap]").session
    fork = table.fork(first)
    assert fork.session != first and fork.step.state == table.state(first)
    table.step(fork.session, "click[next >]")
    assert table.state(first).page_number == 1 and table.state(fork.session).page_number == 2


def test_closed_and_unknown_sessions_are_gone() -> None:
    table = SessionTable(SHOP)
    session = table.reset(GOAL).session
    table.close(session)
    table.close(session)
    for call in (table.state, table.fork, lambda name: table.step(name, "search[a]")):
        with pytest.raises(SessionGoneError, match="reset again"):
            call(session)


def test_sessions_expire_when_nobody_uses_them() -> None:
    clock = Clock()
    table = SessionTable(SHOP, expiry_s=10.0, clock=clock)
    idle, busy = table.reset(GOAL).session, table.reset(GOAL).session
    clock.now_s = 8.0
    table.step(busy, "search[soap]")
    clock.now_s = 12.0
    assert len(table) == 1 and table.state(busy).page_number == 1
    with pytest.raises(SessionGoneError):
        table.state(idle)


@pytest.mark.parametrize("expiry_s", [0.0, -1.0, float("nan")])
def test_an_expiry_that_is_not_positive_is_refused(expiry_s: float) -> None:
    with pytest.raises(ValueError, match="expiry_s"):
        SessionTable(SHOP, expiry_s=expiry_s)


def test_sixty_four_sessions_at_once_do_not_disturb_each_other() -> None:
    table = SessionTable(SHOP)

    def shop_until_done(number: int) -> tuple[float, int]:
        session = table.reset(GOAL).session
        for _ in range(number % 8):
            table.step(session, "think[wait]")
        rewards = [table.step(session, action).step.reward for action in PURCHASE]
        return rewards[-1], table.state(session).num_invalid

    with ThreadPoolExecutor(max_workers=64) as threads:
        results = list(threads.map(shop_until_done, range(64)))
    assert results == [(1.0, number % 8) for number in range(64)] and len(table) == 64
