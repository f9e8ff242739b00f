"""Shapes, estimates and calibration against the worked numbers."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from inference.speculative.controllers.base import confidence_estimate, reach_probs
from inference.speculative.controllers.calibration import Calibration
from inference.speculative.controllers.dyspec import DySpec, DySpecThreshold
from inference.speculative.controllers.fixed import Chain, StaticTree, parents_of_widths
from inference.speculative.controllers.static_shape import (
    best_guess_paths,
    best_num_guesses,
    best_shape,
    fastest_shape,
)
from inference.speculative.draft_tree import ROOT, DraftLimits, DraftTree
from inference.speculative.laws import POINT, Probs
from inference.speculative.random_source import PhiloxSource, RandomSource

ROWS = {
    (): np.array([0.6, 0.3, 0.1]),
    0: np.array([0.7, 0.2, 0.1]),
    1: np.array([0.4, 0.4, 0.2]),
    2: np.array([0.1, 0.1, 0.8]),
}


class ScriptedTokens:
    """Draws the tokens of a worked example."""

    def __init__(self, *tokens: int) -> None:
        self._tokens = iter(tokens)

    def categorical(self, probs: Probs) -> int:
        return next(self._tokens)

    def bernoulli(self, prob: float) -> bool:
        raise AssertionError("drafting needs no coin")


def grown(
    controller: DySpec | DySpecThreshold | Chain | StaticTree,
    rng: RandomSource,
    max_nodes: int = 64,
    tree: DraftTree | None = None,
) -> tuple[DraftTree, list[list[int]]]:
    """The tree, and the nodes that were asked for in each round."""
    tree = tree or DraftTree(DraftLimits(max_nodes=max_nodes))
    growth = controller.grow(tree, rng, "test")
    asked: list[list[int]] = []
    rows: list[Probs] | None = None
    while True:
        try:
            nodes = growth.send(rows)  # type: ignore[arg-type]  # the first value sent is None
        except StopIteration:
            return tree, asked
        asked.append(list(nodes))
        rows = [ROWS[() if node == ROOT else tree.token[node]] for node in nodes]


def test_dyspec_builds_the_worked_tree() -> None:
    tree, asked = grown(DySpec(5), ScriptedTokens(0, 0, 1, 1, 2))
    assert tree.parent == [ROOT, 0, 1, ROOT, 1]
    assert tree.token == [0, 0, 1, 1, 2]
    assert tree.confidence == pytest.approx([0.6, 0.7, 0.2, 0.75, 0.125])
    accepted, slots = reach_probs(tree, confidence_estimate)
    assert sum(accepted) == pytest.approx(1.4460)
    assert sorted(slots.values(), reverse=True) == pytest.approx(
        [0.3, 0.294, 0.18, 0.1, 0.084, 0.042]
    )
    assert asked == [[ROOT], [0], [1]]  # a row is asked for once, leaves never


def test_the_threshold_form_goes_on_with_the_two_best_slots() -> None:
    tree, _ = grown(DySpec(5), ScriptedTokens(0, 0, 1, 1, 2))
    before = len(tree)
    _, asked = grown(DySpecThreshold(0.2), ScriptedTokens(1, 0, 1, 0, 1), tree=tree)
    assert asked[0] == [3, 1]
    assert tree.parent[before:] == [3, 1, 6, 6, 8]


@pytest.mark.parametrize("controller", [DySpec(1), DySpecThreshold(0.75)])
def test_slots_of_another_drafters_nodes_compete(controller: DySpec | DySpecThreshold) -> None:
    tree = DraftTree(DraftLimits(max_nodes=9))
    tree.append(ROOT, 0, POINT, source="lookup", confidence=0.8)
    _, asked = grown(controller, ScriptedTokens(1), tree=tree)
    assert asked == [[0]]
    assert tree.parent == [ROOT, 0]


def test_a_larger_budget_contains_the_smaller_tree() -> None:
    small, _ = grown(DySpec(4), PhiloxSource(3, 0, "draft"))
    large, _ = grown(DySpec(9), PhiloxSource(3, 0, "draft"))
    assert large.token[:4] == small.token
    assert large.parent[:4] == small.parent


@pytest.mark.parametrize("threshold", [0.02, 0.1, 0.4])
def test_the_threshold_form_fills_exactly_the_slots_above_it(threshold: float) -> None:
    tree, asked = grown(DySpecThreshold(threshold), PhiloxSource(5, 0, "draft"), 999)
    _, slots = reach_probs(tree, confidence_estimate)
    is_open = [tree.child_tokens(n) == () or len(tree.children(n)) < 3 for n in slots]
    assert all(
        value < threshold for value, more in zip(slots.values(), is_open, strict=True) if more
    )
    assert len(asked) <= max(tree.depth) + 1


def test_the_node_cap_of_the_limits_holds_in_the_threshold_form() -> None:
    tree, _ = grown(DySpecThreshold(0.001), PhiloxSource(5, 0, "draft"), max_nodes=10)
    assert len(tree) == 10


def test_reach_probabilities_multiply_acceptances_and_rejections() -> None:
    tree = DraftTree(DraftLimits(max_nodes=3))
    for parent, confidence in ((ROOT, 0.5), (ROOT, 0.2), (0, 0.4)):
        tree.append(parent, 0, POINT, source="test", confidence=confidence)
    accepted, slots = reach_probs(tree, confidence_estimate)
    assert accepted == pytest.approx([0.5, 0.1, 0.2])
    assert slots == pytest.approx({ROOT: 0.4, 0: 0.3, 1: 0.1, 2: 0.2})


def test_a_chain_stops_behind_an_improbable_token() -> None:
    tree, _ = grown(Chain(5, stop_below=0.3), ScriptedTokens(0, 1, 0))
    assert tree.token == [0, 1]


def test_widths_give_levels() -> None:
    assert parents_of_widths([2, 1]) == (-1, -1, 0, 1)
    assert parents_of_widths([]) == ()
    tree, asked = grown(StaticTree(parents_of_widths([2, 2])), PhiloxSource(1, 0, "draft"))
    assert tree.parent == [-1, -1, 0, 0, 1, 1]
    assert asked == [[ROOT], [0, 1]]


def test_a_static_tree_leaves_out_what_cannot_be_drawn() -> None:
    tree, _ = grown(StaticTree(parents_of_widths([5])), PhiloxSource(1, 0, "draft"))
    assert sorted(tree.token) == [0, 1, 2]


# ------------------------------------------------------------------ calibration


def calibrated_tree(confidences: Sequence[float], source: str = "a") -> DraftTree:
    tree = DraftTree(DraftLimits(max_nodes=9))
    for confidence in confidences:
        tree.append(ROOT, 0, POINT, source=source, confidence=confidence)
    return tree


def test_calibration_returns_the_mean_of_the_tenth() -> None:
    calibration = Calibration()
    calibration.update(calibrated_tree([0.31, 0.39, 1.0]), [0.5, 0.7, 0.9], "a")
    calibration.update(calibrated_tree([0.35], "b"), [0.0], "a")
    tree = calibrated_tree([0.33, 0.95, 0.05])
    assert [calibration(tree, node) for node in range(3)] == pytest.approx([0.6, 0.9, 0.05])
    assert calibration.curve()[3] == pytest.approx(0.6)
    calibration.reset()
    assert calibration(tree, 0) == 0.33


# ------------------------------------------------------------------ static shapes


def all_shapes(num_nodes: int) -> list[tuple[int, ...]]:
    ranges = [range(-1, node) for node in range(num_nodes)]
    return list(itertools.product(*ranges))


def value_of(parents: Sequence[int], rates: Sequence[float]) -> float:
    """1 + sum over nodes of the product of the rates of their ranks."""
    values: list[float] = []
    ranks: dict[int, int] = {}
    for parent in parents:
        rank = ranks.get(parent, 0)
        ranks[parent] = rank + 1
        above = 1.0 if parent < 0 else values[parent]
        values.append(above * (rates[rank] if rank < len(rates) else 0.0))
    return 1.0 + sum(values)


def depth_of(parents: Sequence[int]) -> int:
    depths: list[int] = []
    for parent in parents:
        depths.append(1 if parent < 0 else depths[parent] + 1)
    return max(depths, default=0)


@pytest.mark.parametrize("rates", [(0.6, 0.2, 0.1), (0.4, 0.35, 0.2), (0.9,), (0.3, 0.3)])
@pytest.mark.parametrize("max_depth", [1, 2, 3, 9])
@pytest.mark.parametrize("num_nodes", [0, 1, 3, 5])
def test_the_dynamic_program_finds_the_best_of_all_trees(
    rates: tuple[float, ...], max_depth: int, num_nodes: int
) -> None:
    shape = best_shape(rates, num_nodes=num_nodes, max_depth=max_depth)
    best = max(
        value_of(parents, rates)
        for size in range(num_nodes + 1)
        for parents in all_shapes(size)
        if depth_of(parents) <= max_depth
    )
    assert shape.expected_tokens == pytest.approx(best, abs=1e-12)
    assert value_of(shape.parents, rates) == pytest.approx(best, abs=1e-12)
    assert shape.depth == depth_of(shape.parents) <= max_depth
    StaticTree(shape.parents)


def test_the_fastest_shape_shrinks_when_drafting_is_dear() -> None:
    def shape(draft_s: float) -> int:
        return len(
            fastest_shape(
                (0.6, 0.2),
                max_nodes=6,
                max_depth=6,
                draft_s=draft_s,
                target_s=lambda m: 1 + 0.02 * m,
            ).parents
        )

    assert shape(0.01) > shape(0.5) > 0
    assert shape(5.0) == 0


ACCURACY = [(0.60, 0.15, 0.06, 0.03), (0.40, 0.12, 0.05, 0.03), (0.25, 0.09, 0.05, 0.03)]
LATENCY = {1: 1.0, 2: 1.005, 4: 1.02, 8: 1.06, 16: 1.20, 32: 1.55, 64: 2.40}


def test_guess_paths_are_the_computed_ones() -> None:
    paths = best_guess_paths(ACCURACY, 64)
    first = [(0,), (0, 0), (1,), (0, 1), (2,), (1, 0), (0, 0, 0), (3,)]
    assert [path for path, _ in paths[:8]] == first
    values = [value for _, value in paths]
    assert values == sorted(values, reverse=True)
    tau = [1.0 + sum(values[:num]) for num in LATENCY]
    assert tau == pytest.approx([1.6, 1.84, 2.062, 2.272, 2.4286, 2.5176, 2.5528], abs=6e-5)
    assert best_num_guesses(ACCURACY, LATENCY) == (8, pytest.approx(2.1434, abs=6e-5))
    seen: set[tuple[int, ...]] = {()}
    for path, _ in paths:
        assert path[:-1] in seen
        seen.add(path)


def test_rates_that_are_no_probabilities_are_refused() -> None:
    with pytest.raises(ValueError, match="sum at most 1"):
        best_shape((0.7, 0.6), num_nodes=2, max_depth=2)
    with pytest.raises(ValueError, match=r"parents\[0\]=0"):
        StaticTree((0,))
    with pytest.raises(ValueError, match="threshold=0"):
        DySpecThreshold(0.0)
    assert np.isfinite(best_shape((), num_nodes=3, max_depth=3).expected_tokens)
