"""Look-up by name, options, and environments without snapshots."""

from __future__ import annotations

import pytest

from rollout.envs.base import Observation
from rollout.envs.calculator import Calculator
from rollout.envs.load import environment_names, load_environment
from rollout.envs.replay import ReplayEnvironment, ReplayError
from tests.fake_environments import DigitEcho, Unstable

SHOPS = "tests.fake_environments:open_shops"


def test_environments_are_found_by_convention() -> None:
    assert environment_names() == ["calculator", "sql_agent", "webshop"]
    assert isinstance(load_environment("calculator", {}).make(), Calculator)


def test_an_environment_without_snapshots_is_wrapped() -> None:
    source = load_environment("tests.fake_environments:DigitEcho", {})
    assert isinstance(source.make(), ReplayEnvironment)
    assert source.turns is DigitEcho.turns


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("calcualtor", {}, r"type='calcualtor' is unknown; use one of \['calculator'"),
        ("base", {}, "unknown"),
        ("no.such:Thing", {}, "cannot be loaded"),
        ("tests.fake_environments:Nothing", {}, "cannot be loaded"),
        ("tests.fake_environments:SHOPS", {}, "expected a class"),
        ("tests.fake_environments:NotAnEnvironment", {}, r"needs turns, reset\(example\) and step"),
        ("calculator", {"digits": 3}, "calculator takes no options"),
        ("sql_agent", {}, "missing .* argument: 'executor'"),
        (
            "sql_agent",
            {"executor": SHOPS, "rows": 2},
            r"sql_agent has no \['rows'\]; known: \['exec",
        ),
        ("sql_agent", {"executor": SHOPS, "max_rows": 0}, "max_rows=0 must be at least 1"),
        ("sql_agent", {"executor": "nowhere"}, "executor='nowhere' cannot be loaded"),
    ],
)
def test_wrong_names_and_options_are_refused(
    name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_environment(name, options)


def test_a_replay_goes_back_and_forth() -> None:
    environment = ReplayEnvironment(DigitEcho)
    environment.reset({})
    states = [environment.snapshot()]
    for action in "a3", "b4", "c1":
        environment.step(action)
        states.append(environment.snapshot())
    environment.restore(states[1])
    assert environment.step("5").text == "=8"
    environment.restore(states[3])
    assert environment.step("1").text == "=9"
    environment.restore(states[0])
    assert environment.step("2").text == "=2"


def test_continuing_where_one_is_replays_nothing() -> None:
    made: list[DigitEcho] = []

    def make() -> DigitEcho:
        made.append(DigitEcho())
        return made[-1]

    environment = ReplayEnvironment(make)
    environment.reset({})
    for _ in range(5):
        environment.restore(environment.snapshot())
        environment.step("1")
    assert len(made) == 2  # the constructor's, for the format, and the reset's


def test_an_environment_that_answers_differently_is_found_out() -> None:
    environment = ReplayEnvironment(Unstable)
    environment.reset({})
    start = environment.snapshot()
    environment.step("a!")
    middle = environment.snapshot()
    environment.restore(start)
    with pytest.raises(ReplayError, match="the replay differs at step 1"):
        environment.restore(middle)


def test_a_step_that_raised_is_replayed_not_continued() -> None:
    environment = ReplayEnvironment(DigitEcho)
    environment.reset({})
    environment.step("4")
    state = environment.snapshot()
    with pytest.raises(ValueError, match="invalid literal"):
        environment.step("no digit")
    environment.restore(state)
    assert environment.step("1") == Observation(text="=5", detail={"total": 5})
