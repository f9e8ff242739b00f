"""Budget, every policy by worked numbers, look-up by name, and a conformance test over all of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.branching.base import (
    ResponsePath,
    branch_budget,
    branch_policy_names,
    checked_allocation,
    load_branch_policy,
)
from rollout.branching.entropy import mean_entropy
from rollout.branching.even import EvenBranching, split_evenly
from rollout.branching.value import ValueBranching
from rollout.tree import Segment

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "even": [{}],
    "logprob": [{}, {"favour": "high"}, {"reduction": "sum", "scope": "path"}],
    "scheduled_logprob": [{}, {"favour": "high", "temperature_end": 0.1}],
    "entropy": [{}, {"measure": "tail", "tail_tokens": 1, "temperature": 0.01}],
    "value": [
        {"function": "tests.fakes:last_logprob"},
        {"function": "tests.fakes:last_logprob", "prune_below": -0.3},
        {"function": "tests.fakes:last_logprob", "prune_below": 9.0},
    ],
}
"""Settings under which the conformance test runs; a new policy that needs some adds a line."""
CASES = [
    (name, settings) for name in branch_policy_names() for settings in SETTINGS.get(name, [{}])
]


def segment(
    logprobs: Sequence[float], entropies: Sequence[float] | None = None, *, is_prompt: bool = False
) -> Segment:
    num = len(logprobs)
    return Segment(
        id=0 if is_prompt else 1,
        parent=None if is_prompt else 0,
        token_ids=tuple(range(num)),
        sampled=(not is_prompt,) * num,
        logprobs=tuple(logprobs),
        behaviour_logprobs=tuple(logprobs),
        entropies=tuple(entropies or [0.5] * num),
        policy_version=0,
    )


PROMPT = segment([0.0, 0.0, 0.0], is_prompt=True)


def paths(num: int) -> list[ResponsePath]:
    """Paths of one segment; the second of its two log-probs falls from path to path."""
    return [[PROMPT, segment([-0.1, -0.1 * i], [0.5, 0.1 * i])] for i in range(num)]


def allocation(name: str, active: Sequence[ResponsePath], total: int, **options: Any) -> list[int]:
    """Children for `total` leaves left with a branching factor that never binds."""
    policy = load_branch_policy(name, 100, **options)
    return policy.allocate([], active, total, random.Random(0))


@pytest.mark.parametrize(
    ("remaining", "num_stopped", "num_active", "branching", "expected"),
    [
        (16, 0, 2, 2, 4),
        (16, 0, 8, 2, 16),
        (16, 0, 16, 2, 16),
        (15, 1, 3, 2, 8),
        (15, 0, 8, 2, 15),
        (13, 3, 5, 2, 13),
        (11, 2, 11, 2, 11),
        (16, 0, 3, 1, 3),
        (16, 2, 3, 1, 5),
        (0, 0, 3, 2, 3),
    ],
)
def test_budget(
    remaining: int, num_stopped: int, num_active: int, branching: int, expected: int
) -> None:
    total = branch_budget(
        remaining=remaining, num_stopped=num_stopped, num_active=num_active, branching=branching
    )
    assert total == expected


def test_remainder_goes_round_robin() -> None:
    assert split_evenly(13, 8) == [2, 2, 2, 2, 2, 1, 1, 1]
    assert split_evenly(8, 8) == [1] * 8
    assert split_evenly(5, 2) == [3, 2]


def test_even_policy_splits_the_budget() -> None:
    children = EvenBranching(2).allocate(paths(3), paths(5), 13, random.Random(0))
    assert children == [3, 3, 3, 2, 2]


@pytest.mark.parametrize(
    ("favour", "temperature", "expected"),
    [
        ("low", 2.0, [2, 3, 3]),
        ("high", 2.0, [3, 3, 2]),
        ("low", 1.0, [2, 2, 4]),
        ("high", 1.0, [3, 3, 2]),
        ("low", 0.25, [1, 1, 6]),
    ],
)
def test_logprob_policy_matches_the_worked_examples(
    favour: str, temperature: float, expected: list[int]
) -> None:
    active = [[PROMPT, segment([s - 0.1, s + 0.1])] for s in (-0.2, -0.5, -1.1)]
    settings = {"favour": favour, "temperature": temperature}
    assert allocation("logprob", active, 8, settings=settings) == expected


def test_logprob_policy_may_look_at_sums_and_at_whole_paths() -> None:
    long, short = [PROMPT, segment([-0.4] * 5)], [PROMPT, segment([-0.5])]
    assert allocation("logprob", [long, short], 8, settings={"temperature": 0.05}) == [2, 6]
    by_sum = {"temperature": 0.05, "reduction": "sum"}
    assert allocation("logprob", [long, short], 8, settings=by_sum) == [7, 1]
    doubtful_start = [PROMPT, segment([-3.0]), segment([-0.1])]
    by_path = {"temperature": 0.05, "scope": "path"}
    assert allocation("logprob", [doubtful_start, short], 8, settings=by_path) == [7, 1]


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, [2, 3, 3]), (0.25, [2, 3, 3]), (1.0, [2, 2, 4])]
)
def test_schedule_moves_from_temperature_5_to_1(progress: float, expected: list[int]) -> None:
    active = [[PROMPT, segment([s])] for s in (-0.2, -0.5, -1.1)]
    assert allocation("scheduled_logprob", active, 8, progress=progress) == expected
    fixed = {"temperature": 5.0 - 4.0 * progress}
    assert allocation("logprob", active, 8, settings=fixed) == expected


def test_progress_outside_the_run_is_refused() -> None:
    with pytest.raises(ValueError, match=r"progress=1.5 must lie in \[0, 1\]"):
        load_branch_policy("scheduled_logprob", 2, progress=1.5)


def test_entropy_policy_branches_where_the_segment_is_in_doubt() -> None:
    calm_end = [PROMPT, segment([0.0] * 4, [2.0, 2.0, 0.1, 0.1])]
    unsure_end = [PROMPT, segment([0.0] * 4, [0.1, 0.1, 1.0, 1.0])]
    sharp = {"temperature": 0.05}
    assert allocation("entropy", [calm_end, unsure_end], 8, settings=sharp) == [7, 1]
    tail = {**sharp, "measure": "tail", "tail_tokens": 2}
    assert allocation("entropy", [calm_end, unsure_end], 8, settings=tail) == [1, 7]
    assert mean_entropy(calm_end[-1]) == pytest.approx(1.05)
    assert mean_entropy(calm_end[-1], 2) == pytest.approx(0.1)
    assert mean_entropy(PROMPT) == 0.0


def test_value_policy_gives_pruned_paths_one_child() -> None:
    settings = {
        "function": "tests.fakes:last_logprob",
        "temperature": 0.01,
        "prune_below": -0.45,
        "stop_below": -0.65,
    }
    active = [[PROMPT, segment([value])] for value in (-0.5, -0.2, -0.7)]
    policy = load_branch_policy("value", 100, settings)
    assert policy.allocate([], active, 8, random.Random(0)) == [1, 6, 1]
    assert isinstance(policy, ValueBranching)
    assert policy.early_stops(active) == [False, False, True]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("even", {"temperature": 1.0}, "branch_policy='even' takes no settings"),
        ("logprob", {"temprature": 1.0}, r"known: \['favour', 'temperature'"),
        ("logprob", {"temperature": 0.0}, "temperature=0.0 must be positive"),
        ("logprob", {"favour": "middle"}, "favour='middle' is unknown; expected low or high"),
        ("scheduled_logprob", {"temperature_end": -1.0}, "temperature_end=-1.0 must be positive"),
        ("entropy", {"measure": "max"}, "measure='max' is unknown"),
        ("entropy", {"tail_tokens": 0}, "tail_tokens=0 must be at least 1"),
        ("value", {}, r"missing 1 required keyword-only argument: 'function'"),
        ("value", {"function": "math"}, "must be written pkg.mod:function"),
        ("value", {"function": "math:no"}, "cannot be loaded"),
        ("value", {"function": "math:pi"}, "is not callable"),
    ],
)
def test_bad_settings_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_branch_policy(name, 2, settings)


@pytest.mark.parametrize(("name", "settings"), CASES)
@given(
    num_stopped=st.integers(0, 6),
    num_active=st.integers(1, 20),
    spare=st.integers(0, 20),
    branching=st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_every_policy_keeps_the_contract(
    name: str,
    settings: dict[str, Any],
    num_stopped: int,
    num_active: int,
    spare: int,
    branching: int,
    seed: int,
) -> None:
    policy = load_branch_policy(name, branching, settings, progress=seed / 9)
    arguments = (paths(num_stopped), paths(num_active), num_active + spare)
    children = policy.allocate(*arguments, random.Random(seed))
    checked_allocation(children, num_active=num_active, remaining=num_active + spare)
    budget = branch_budget(
        remaining=num_active + spare,
        num_stopped=num_stopped,
        num_active=num_active,
        branching=branching,
    )
    assert sum(children) <= budget
    assert children == policy.allocate(*arguments, random.Random(seed))


@pytest.mark.parametrize("children", [[1], [1, 1, 1], [0, 3], [3, 2], []])
def test_broken_allocations_are_refused(children: list[int]) -> None:
    with pytest.raises(ValueError, match="2 active paths with 4 leaves left"):
        checked_allocation(children, num_active=2, remaining=4)


def test_even_is_found_by_convention() -> None:
    assert "even" in branch_policy_names()
    assert isinstance(load_branch_policy("even", 2), EvenBranching)


def test_outside_class_is_found_by_its_path() -> None:
    policy = load_branch_policy("tests.fakes:GreedyBranching", 3)
    assert policy.allocate([], paths(3), 9, random.Random(0)) == [7, 1, 1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("evne", r"branch_policy='evne' is unknown; use one of \['entropy', 'even'"),
        ("base", "unknown"),
        ("no.such:Thing", "cannot be loaded"),
        ("rollout.branching.even:Thing", "cannot be loaded"),
        ("fractions:Fraction", "has no method allocate"),
    ],
)
def test_bad_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_branch_policy(name, 2)
