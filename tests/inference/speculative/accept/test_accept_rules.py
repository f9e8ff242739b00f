"""The worked verification, typical thresholds, greedy equality, and random trees."""

import importlib
import pkgutil
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import inference.speculative.accept as rules
from inference.speculative.accept.base import (
    Acceptance,
    AcceptRule,
    node_accept_probs,
)
from inference.speculative.accept.greedy import Greedy
from inference.speculative.accept.matching import Matching
from inference.speculative.accept.sampling import RecursiveRejection
from inference.speculative.accept.typical import Typical, TypicalConfig, typical_threshold
from inference.speculative.controllers.dyspec import DySpec
from inference.speculative.controllers.fixed import StaticTree, parents_of_widths
from inference.speculative.draft_tree import ROOT, DraftLimits, DraftTree
from inference.speculative.draws import Draw, draw_any, draw_new, take_best
from inference.speculative.laws import POINT, Probs, RowLaw
from inference.speculative.random_source import RandomSource, enumerate_outcomes, inverse_cdf
from tests.markov_pair import TARGET, TableDrafter, decode

RULES: list[AcceptRule] = [
    importlib.import_module(f"inference.speculative.accept.{module.name}").ACCEPT_RULE()
    for module in pkgutil.iter_modules(rules.__path__)
    if module.name != "base"
]


class ScriptedUniforms:
    """Gives the numbers of a worked example, in order."""

    def __init__(self, *numbers: float) -> None:
        self._numbers = iter(numbers)

    def categorical(self, probs: NDArray[np.float64]) -> int:
        return inverse_cdf(probs, next(self._numbers))

    def bernoulli(self, prob: float) -> bool:
        return next(self._numbers) < prob


ROOT_TARGET = np.array([0.30, 0.25, 0.30, 0.15])
ROOT_DRAFT = np.array([0.50, 0.20, 0.10, 0.20])
TARGETS = {
    ROOT: ROOT_TARGET,
    1: np.array([0.1, 0.2, 0.6, 0.1]),
    3: np.array([0.2, 0.5, 0.2, 0.1]),
}


def worked_tree() -> DraftTree:
    tree = DraftTree(DraftLimits(max_nodes=4))
    uniform = np.full(4, 0.25)
    for parent, token, row, removed in (
        (ROOT, 0, ROOT_DRAFT, ()),
        (ROOT, 1, ROOT_DRAFT, (0,)),
        (1, 3, uniform, ()),
        (1, 2, uniform, (3,)),
    ):
        tree.append(parent, token, RowLaw(row, removed), source="worked", confidence=0.2)
    return tree


def test_the_worked_verification_emits_1_2_1() -> None:
    rng = ScriptedUniforms(0.73, 0.35, 0.55, 0.90, 0.65)
    found = RecursiveRejection().judge(worked_tree(), TARGETS.__getitem__, rng)
    assert found == Acceptance(nodes=(1, 3), token_ids=(1, 2, 1))
    assert found.row_nodes == (ROOT, 1, 3)


def test_the_worked_tree_has_the_computed_acceptance_of_each_node() -> None:
    found = node_accept_probs(worked_tree(), lambda node: TARGETS[node])
    assert found == pytest.approx([0.6, 0.5, 0.4, 1.0])


def test_the_worked_root_with_point_masses_accepts_the_second_candidate() -> None:
    tree = DraftTree(DraftLimits(max_nodes=2))
    for token in (0, 1):
        tree.append(ROOT, token, POINT, source="worked", confidence=0.5)
    found = node_accept_probs(tree, lambda node: ROOT_TARGET)
    assert found == pytest.approx([0.30, 0.357143], abs=1e-6)
    rng = ScriptedUniforms(0.73, 0.35, 0.0)
    assert RecursiveRejection().judge(tree, lambda node: ROOT_TARGET, rng).nodes == (1,)


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (draw_new, [0.75, 0.84625, 0.897083, 1.0]),
        (draw_any, [0.75, 0.825, 0.8425, 0.85825]),
        (take_best, [0.30, 0.55, 0.70, 1.00]),
    ],
)
def test_some_child_of_the_worked_root_is_accepted_as_computed(
    draw: Draw, expected: Sequence[float]
) -> None:
    found = [share_accepted(draw, num) for num in (1, 2, 3, 4)]
    assert found == pytest.approx(expected, abs=6e-7)


def share_accepted(draw: Draw, num_children: int) -> float:
    table = np.tile(ROOT_DRAFT, (5, 1))
    controller = StaticTree(parents_of_widths([num_children]), draw)

    def run(rng: RandomSource) -> bool:
        drafter = TableDrafter(controller, table)
        drafter.begin([4])
        tree = DraftTree(DraftLimits(max_nodes=num_children))
        list(drafter.propose(tree, rng))
        return bool(RecursiveRejection().judge(tree, lambda node: ROOT_TARGET, rng).nodes)

    return enumerate_outcomes(run)[True]


@pytest.mark.parametrize(
    ("law", "threshold", "accepted"),
    [
        ((0.9, 0.05, 0.03, 0.02), 0.09, [0]),
        ((0.4, 0.3, 0.2, 0.1), 0.083423, [0, 1, 2, 3]),
        ((0.25, 0.25, 0.25, 0.25), 0.075, [0, 1, 2, 3]),
    ],
)
def test_typical_thresholds_are_the_computed_ones(
    law: tuple[float, ...], threshold: float, accepted: list[int]
) -> None:
    row = np.array(law)
    bound = typical_threshold(row, TypicalConfig())
    assert bound == pytest.approx(threshold, abs=1e-6)
    assert np.flatnonzero(row > bound).tolist() == accepted


def test_typical_acceptance_takes_the_longest_plausible_path() -> None:
    tree = DraftTree(DraftLimits(max_nodes=4))
    for parent, token in ((ROOT, 0), (ROOT, 1), (1, 2), (2, 3)):
        tree.append(parent, token, POINT, source="test", confidence=0.5)
    laws = {ROOT: [0.4, 0.4, 0.1, 0.1], 1: [0.1, 0.1, 0.7, 0.1], 2: [0.97, 0.01, 0.01, 0.01]}
    found = Typical().judge(tree, lambda node: np.array(laws[node]), ScriptedUniforms(0.0))
    assert found == Acceptance(nodes=(1, 2), token_ids=(1, 2, 0))


def test_of_two_longest_plausible_paths_the_first_drawn_wins() -> None:
    tree = DraftTree(DraftLimits(max_nodes=2))
    for token in (1, 0):
        tree.append(ROOT, token, POINT, source="test", confidence=0.5)
    even = np.full(4, 0.25)
    assert Typical().judge(tree, lambda node: even, ScriptedUniforms(0.0)).nodes == (0,)


@pytest.mark.parametrize("rule", RULES)
def test_at_temperature_0_every_rule_gives_the_greedy_text(rule: AcceptRule) -> None:
    one_hot = np.eye(4)[TARGET.argmax(-1)]
    plain = [int(TARGET[4].argmax())]
    while len(plain) < 6:
        plain.append(int(TARGET[plain[-1]].argmax()))
    texts = enumerate_outcomes(
        lambda rng: decode(
            TableDrafter(DySpec(2)), rule, rng, num_tokens=3, table=one_hot, max_depth=1
        )
    )
    assert list(texts) == [tuple(plain[:3])]


@pytest.mark.parametrize("rule", RULES)
def test_an_empty_tree_is_a_plain_step(rule: AcceptRule) -> None:
    tree = DraftTree(DraftLimits(max_nodes=0))
    law = enumerate_outcomes(lambda rng: rule.judge(tree, lambda node: TARGET[0], rng).token_ids)
    expected = {(0,): 1.0} if isinstance(rule, Greedy) else {(t,): TARGET[0][t] for t in range(4)}
    assert law == pytest.approx(expected)


@pytest.mark.parametrize("rule", RULES)
def test_nothing_is_emitted_behind_a_stop_token(rule: AcceptRule) -> None:
    tree = DraftTree(DraftLimits(max_nodes=1, stop_token_ids=frozenset({2})))
    tree.append(ROOT, 2, POINT, source="test", confidence=1.0)
    only_two = np.array([0.0, 0.0, 1.0, 0.0])
    found = rule.judge(tree, lambda node: only_two, ScriptedUniforms(0.5, 0.5))
    assert found == Acceptance(nodes=(0,), token_ids=(2,))


def test_matching_draws_exactly_one_number_per_emitted_token() -> None:
    numbers = [0.9, 0.1, 0.5, 0.99, 0.3, 0.7]
    plain, before = [], 4
    for number in numbers:
        before = inverse_cdf(TARGET[before], number)
        plain.append(before)
    found = decode(
        TableDrafter(StaticTree(parents_of_widths([3, 2]), take_best)),
        Matching(),
        ScriptedUniforms(*numbers, 0.0, 0.0, 0.0),
        num_tokens=6,
    )
    assert list(found) == plain


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_trees_with_random_laws_emit_the_target_law(data: st.DataObject) -> None:
    """Point masses, draws with and without replacement, mixed in random order in one tree."""
    size = 3
    plan = [
        (data.draw(st.integers(-1, node - 1)), data.draw(st.sampled_from(["new", "any", "point"])))
        for node in range(data.draw(st.integers(0, 3)))
    ]
    draft = np.array([data.draw(random_law(size)) for _ in range(size + 1)])
    target = np.array([data.draw(random_law(size)) for _ in range(size + 1)])
    points = data.draw(st.lists(st.integers(0, size - 1), min_size=3, max_size=3))

    def run(rng: RandomSource) -> tuple[int, ...]:
        tree = DraftTree(DraftLimits(max_nodes=3))
        renamed = {ROOT: ROOT}
        for node, (parent, kind) in enumerate(plan):
            above = renamed[parent]
            row = draft[size if above == ROOT else tree.token[above]]
            law = RowLaw(row, tree.child_tokens(above) if kind == "new" else ())
            if kind == "new" and not law.probs.any():
                renamed[node] = ROOT
            elif kind == "point":
                renamed[node] = tree.append(above, points[node], POINT, source="", confidence=0.5)
            else:
                token = rng.categorical(law.probs)
                renamed[node] = tree.append(above, token, law, source="", confidence=0.5)
        judged = RecursiveRejection().judge(
            tree, lambda node: target[size if node == ROOT else tree.token[node]], rng
        )
        tokens = list(judged.token_ids)
        while len(tokens) < 3:
            tokens.append(rng.categorical(target[tokens[-1]]))
        return tuple(tokens[:3])

    law = enumerate_outcomes(run)
    for a in range(size):
        for b in range(size):
            for c in range(size):
                plain = target[size, a] * target[a, b] * target[b, c]
                assert law.get((a, b, c), 0.0) == pytest.approx(plain, abs=1e-12)


@st.composite
def random_law(draw: st.DrawFn, size: int) -> Probs:
    weights = np.array(draw(st.lists(st.integers(0, 9), min_size=size, max_size=size)), dtype=float)
    weights[draw(st.integers(0, size - 1))] += 1.0
    return weights / weights.sum()


@pytest.mark.parametrize("wrong", [{"epsilon": 0.0}, {"epsilon": 1.5}, {"delta": 0.0}])
def test_typical_thresholds_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="usual value"):
        TypicalConfig(**wrong)
