"""Budget, even splitting, look-up by name, and a conformance test over every policy of the package."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.branching.base import (
    branch_budget,
    branch_policy_names,
    checked_allocation,
    load_branch_policy,
)
from rollout.branching.even import EvenBranching, split_evenly
from rollout.tree import Segment


def segments(num: int) -> list[Segment]:
    return [
        Segment(
            id=i + 1,
            parent=0,
            token_ids=(7, 8),
            sampled=(True, True),
            logprobs=(-0.1 * i, -1.0),
            behaviour_logprobs=(-0.1 * i, -1.0),
            entropies=(0.5, 0.5),
            policy_version=0,
        )
        for i in range(num)
    ]


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
    children = EvenBranching(2).allocate(segments(3), segments(5), 13, random.Random(0))
    assert children == [3, 3, 3, 2, 2]


@pytest.mark.parametrize("name", branch_policy_names())
@given(
    num_stopped=st.integers(0, 6),
    num_active=st.integers(1, 20),
    spare=st.integers(0, 20),
    branching=st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_every_policy_keeps_the_contract(
    name: str, num_stopped: int, num_active: int, spare: int, branching: int, seed: int
) -> None:
    policy = load_branch_policy(name, branching)
    arguments = (segments(num_stopped), segments(num_active), num_active + spare)
    children = policy.allocate(*arguments, random.Random(seed))
    checked_allocation(children, num_active=num_active, remaining=num_active + spare)
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
    assert policy.allocate([], segments(3), 9, random.Random(0)) == [7, 1, 1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("evne", r"branch_policy='evne' is unknown; use one of \['even'"),
        ("base", "unknown"),
        ("no.such:Thing", "cannot be loaded"),
        ("rollout.branching.even:Thing", "cannot be loaded"),
        ("fractions:Fraction", "has no method allocate"),
    ],
)
def test_bad_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_branch_policy(name, 2)
