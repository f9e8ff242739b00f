"""Every lossless combination has exactly the target law; every known mistake shows with its distance."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from inference.speculative.accept.base import Acceptance, AcceptRule, Guarantee, accepted_path
from inference.speculative.accept.matching import Matching
from inference.speculative.accept.sampling import RecursiveRejection
from inference.speculative.accept.typical import Typical
from inference.speculative.controllers.base import TreeController
from inference.speculative.controllers.dyspec import DySpec, DySpecThreshold
from inference.speculative.controllers.fixed import Chain, StaticTree, parents_of_widths
from inference.speculative.draft_tree import ROOT, DraftLimits, DraftTree
from inference.speculative.drafters.base import Drafter, LawKind, append_candidates
from inference.speculative.drafters.composite import CompositeDrafter
from inference.speculative.drafters.hierarchy import HierarchyDrafter
from inference.speculative.drafters.ngram import NgramConfig, NgramDrafter
from inference.speculative.drafters.suffix import SuffixDrafter
from inference.speculative.draws import Draw, draw_any, draw_new, take_best
from inference.speculative.laws import (
    POINT,
    Probs,
    RowLaw,
    accept_prob,
    after_rejection,
)
from inference.speculative.proposing import Proposing, no_queries
from inference.speculative.random_source import RandomSource, enumerate_outcomes
from inference.speculative.suffix_corpus import SuffixCorpus
from inference.speculative.target_law import TargetLaw
from tests.markov_pair import (
    DRAFT,
    MIDDLE,
    START,
    TARGET,
    Law,
    MakeDrafter,
    TableDrafter,
    TableProvider,
    decode,
    decoded_law,
    first_step_tokens,
    last_token,
    plain_law,
    total_variation,
)

EXACT = 1e-12
REJECTION = RecursiveRejection()


def tree_of(*widths: int, draw: Draw = draw_new) -> StaticTree:
    return StaticTree(parents_of_widths(widths), draw)


def constant_estimate(tree: DraftTree, node: int) -> float:
    return 0.7


def true_acceptance(tree: DraftTree, node: int) -> float:
    """The probability that recursive rejection accepts the node once it is judged."""
    parent = tree.parent[node]
    residual = plain_row(tree, parent)
    for sibling in tree.children(parent):
        if sibling == node:
            break
        residual = after_rejection(residual, tree.token[sibling], tree.law[sibling])
    return accept_prob(residual, tree.token[node], tree.law[node])


def plain_row(tree: DraftTree, node: int) -> Probs:
    return TARGET[last_token(tree, [START], node)]


EXPECTED_FIRST_STEP = [
    (Chain(1), 1.7),
    (Chain(2), 2.2275),
    (DySpec(1), 1.7),
    (DySpec(2), 1.833333333),
    (DySpec(3), 2.058333333),
    (DySpec(4), 2.110833333),
    (DySpec(1, constant_estimate), 1.7),
    (DySpec(2, constant_estimate), 2.2275),
    (DySpec(3, constant_estimate), 2.624125),
    (DySpec(4, constant_estimate), 2.92265),
    (DySpec(1, true_acceptance), 1.7),
    (DySpec(2, true_acceptance), 2.2275),
    (DySpec(3, true_acceptance), 2.596054),
    (DySpec(4, true_acceptance), 2.899753),
    (tree_of(2), 1.833333333),
    (tree_of(3), 1.92),
    (tree_of(4), 2.0),
    (tree_of(2, 1), 2.458167),
    (tree_of(2, draw=draw_any), 1.775),
    (tree_of(1, draw=take_best), 1.3),
    (tree_of(2, draw=take_best), 1.45),
    (tree_of(2, 1, draw=take_best), 1.63),
]


@pytest.mark.parametrize(("controller", "expected"), EXPECTED_FIRST_STEP)
def test_the_first_step_emits_the_computed_number_of_tokens(
    controller: TreeController, expected: float
) -> None:
    found = first_step_tokens(lambda: TableDrafter(controller), REJECTION)
    assert found == pytest.approx(expected, abs=6e-7)


EXACT_CONTROLLERS: list[TreeController] = [
    Chain(0),
    Chain(1),
    Chain(2),
    Chain(3, stop_below=0.3),
    Chain(2, draw=take_best),
    DySpec(1),
    DySpec(2),
    DySpec(3),
    DySpec(4),
    DySpec(3, constant_estimate),
    DySpec(3, true_acceptance),
    DySpec(3, draw=take_best),
    DySpecThreshold(0.45),
    DySpecThreshold(0.5, constant_estimate),
    tree_of(2),
    tree_of(3),
    tree_of(4),
    tree_of(2, 1),
    tree_of(2, draw=draw_any),
    tree_of(2, draw=take_best),
    tree_of(2, 1, draw=take_best),
]


@pytest.mark.parametrize("rule", [RecursiveRejection(), Matching()])
@pytest.mark.parametrize("controller", EXACT_CONTROLLERS)
def test_two_tokens_have_the_target_law(controller: TreeController, rule: AcceptRule) -> None:
    law = decoded_law(lambda: TableDrafter(controller), rule)
    assert sum(law.values()) == pytest.approx(1.0, abs=EXACT)
    assert total_variation(law, plain_law()) < EXACT


class TextDrafter:
    """Proposes given texts in the first step, nothing later."""

    name = "text"
    law_kind: LawKind = "point"

    def __init__(self, *texts: Sequence[int]) -> None:
        self._texts = texts
        self._is_first = True

    def begin(self, context: Sequence[int]) -> None:
        self._is_first = len(context) == 1

    def propose(self, tree: DraftTree, rng: RandomSource) -> Proposing:
        for text in self._texts if self._is_first else ():
            append_candidates(tree, ROOT, text, [0.5] * len(text), self.name)
        return no_queries()

    def commit(self, token_ids: Sequence[int]) -> None:
        self._is_first = False

    def reset(self) -> None:
        self._is_first = True


class CachedDrafter(TextDrafter):
    """A text that an older model drew, with its full rows."""

    law_kind: LawKind = "row"

    def propose(self, tree: DraftTree, rng: RandomSource) -> Proposing:
        node, before = ROOT, START
        for _ in range(2 if self._is_first else 0):
            row = DRAFT[before]
            before = rng.categorical(row)
            node = tree.append(node, before, RowLaw(row), source="old", confidence=row[before])
        return no_queries()


def hierarchy(length: int = 1) -> Drafter:
    return HierarchyDrafter(
        small=TableProvider(DRAFT),
        controller=Chain(1),
        middle=TableProvider(MIDDLE),
        length=length,
    )


def sibling_corpus() -> SuffixCorpus:
    corpus = SuffixCorpus()
    corpus.add([START, 0, 1, 1, 2])
    corpus.add([START, 0, 2, 1, 1])
    return corpus


MIXED: dict[str, MakeDrafter] = {
    "cached text, point law": lambda: TextDrafter((0, 1)),
    "cached text, true residual": CachedDrafter,
    "hierarchy": hierarchy,
    "hierarchy of two": lambda: hierarchy(2),
    "point then sampled": lambda: CompositeDrafter([TextDrafter((1,)), TableDrafter(tree_of(2))]),
    "sampled then point": lambda: CompositeDrafter([TableDrafter(Chain(2)), TextDrafter((1, 2))]),
    "points then DySpec": lambda: CompositeDrafter(
        [TextDrafter((1, 0), (2,)), TableDrafter(DySpec(3))]
    ),
    "points then threshold": lambda: CompositeDrafter(
        [TextDrafter((1,)), TableDrafter(DySpecThreshold(0.4))]
    ),
    "n-gram": lambda: NgramDrafter(NgramConfig(min_ngram=1)),
    "suffix": lambda: SuffixDrafter(shared=sibling_corpus()),
    "everything": lambda: CompositeDrafter(
        [NgramDrafter(NgramConfig(min_ngram=1)), TableDrafter(Chain(1)), TextDrafter((0,))]
    ),
}


@pytest.mark.parametrize("rule", [RecursiveRejection(), Matching()])
@pytest.mark.parametrize("name", MIXED)
def test_other_drafters_and_mixtures_have_the_target_law(name: str, rule: AcceptRule) -> None:
    law = decoded_law(MIXED[name], rule)
    assert total_variation(law, plain_law()) < EXACT


@pytest.mark.parametrize("name", ["n-gram", "suffix", "everything"])
def test_three_tokens_with_lookup_have_the_target_law(name: str) -> None:
    law = decoded_law(MIXED[name], REJECTION, num_tokens=3)
    assert total_variation(law, plain_law(3)) < EXACT


@pytest.mark.parametrize("rule", [RecursiveRejection(), Matching()])
def test_stop_tokens_and_limits_leave_the_law_unchanged(rule: AcceptRule) -> None:
    plain: dict[tuple[int, ...], float] = {}
    for tokens, prob in plain_law(3).items():
        end = tokens.index(3) + 1 if 3 in tokens else 3
        plain[tokens[:end]] = plain.get(tokens[:end], 0.0) + prob
    law = decoded_law(
        lambda: TableDrafter(tree_of(2, 1)),
        rule,
        num_tokens=3,
        stop_token_ids=frozenset({3}),
        max_depth=2,
        max_nodes=3,
    )
    assert total_variation(law, plain) < EXACT


def test_siblings_that_draft_from_each_other_stay_independent() -> None:
    def run(rng: RandomSource) -> tuple[int, ...]:
        corpus = SuffixCorpus()
        texts = []
        for _ in range(2):
            texts.append(decode(SuffixDrafter(shared=corpus), REJECTION, rng, num_tokens=3))
            corpus.add([START, *texts[-1]])
        return texts[0] + texts[1]

    pairs = {
        a + b: p * q
        for (a, p), (b, q) in itertools.product(plain_law(3).items(), plain_law(3).items())
    }
    assert total_variation(enumerate_outcomes(run), pairs) < EXACT


def test_a_copied_sibling_with_the_ratio_rule_is_not_independent() -> None:
    """p_new / p_old is 1 for the same policy: marginals are right, but every sibling is a copy."""
    law = np.array([0.3, 0.3, 0.25, 0.15])

    def joint(proposal: Probs | None) -> dict[tuple[int, ...], float]:
        def run(rng: RandomSource) -> tuple[int, ...]:
            first = rng.categorical(law)
            tree = DraftTree(DraftLimits(max_nodes=1))
            drawn = POINT if proposal is None else RowLaw(proposal)
            tree.append(ROOT, first, drawn, source="sibling", confidence=1.0)
            return first, REJECTION.judge(tree, lambda node: law, rng).token_ids[0]

        return enumerate_outcomes(run)

    independent: Law = {(a, b): law[a] * law[b] for a in range(4) for b in range(4)}
    copied, fresh = joint(law), joint(None)
    assert sum(p for (a, b), p in copied.items() if a == b) == pytest.approx(1.0)
    assert total_variation(copied, independent) == pytest.approx(0.735)
    assert sum(p for (a, b), p in fresh.items() if a == b) == pytest.approx(0.265)
    assert total_variation(fresh, independent) < EXACT


# ------------------------------------------------------------------ mistakes that must be visible


class Relabelled(TableDrafter):
    """Draws with one law and declares another."""

    def __init__(self, controller: TreeController, declare: str) -> None:
        super().__init__(controller)
        self._declare = declare

    def propose(self, tree: DraftTree, rng: RandomSource) -> Proposing:
        super().propose(tree, rng)
        for node, parent in enumerate(tree.parent):
            row = DRAFT[last_token(tree, self._context, parent)]
            earlier = tuple(tree.token[c] for c in tree.children(parent) if c < node)
            tree.law[node] = RowLaw(row, earlier if self._declare == "without" else ())
        return no_queries()


class Rebuilt(TableDrafter):
    """Drops or re-sorts drawn nodes and declares laws as if it had drawn the rest in that order."""

    def __init__(self, controller: TreeController, min_prob: float, is_sorted: bool) -> None:
        super().__init__(controller)
        self._min_prob = min_prob
        self._is_sorted = is_sorted

    def propose(self, tree: DraftTree, rng: RandomSource) -> Proposing:
        drawn = DraftTree(tree.limits)
        super().propose(drawn, rng)
        renamed = {ROOT: ROOT}
        order = sorted(range(len(drawn)), key=lambda node: drawn.token[node] * self._is_sorted)
        for node in order:
            row = DRAFT[last_token(drawn, self._context, drawn.parent[node])]
            kept = row[drawn.token[node]] >= self._min_prob
            if kept and drawn.parent[node] in renamed:
                renamed[node] = tree.append(
                    renamed[drawn.parent[node]],
                    drawn.token[node],
                    RowLaw(row, tree.child_tokens(renamed[drawn.parent[node]])),
                    source="wrong",
                    confidence=drawn.confidence[node],
                )
        return no_queries()


class DroppingChain(TableDrafter):
    """A chain that throws an improbable token away and stops."""

    def propose(self, tree: DraftTree, rng: RandomSource) -> Proposing:
        node, before = ROOT, self._context[-1]
        for _ in range(2):
            row = DRAFT[before]
            before = rng.categorical(row)
            if row[before] < 0.3:
                break
            node = tree.append(node, before, RowLaw(row), source="wrong", confidence=row[before])
        return no_queries()


class SloppyHierarchy(TableDrafter):
    """The middle model draws from its whole law after a rejection."""

    def propose(self, tree: DraftTree, rng: RandomSource) -> Proposing:
        draft, middle = DRAFT[self._context[-1]], MIDDLE[self._context[-1]]
        token = rng.categorical(draft)
        if not rng.bernoulli(min(1.0, middle[token] / draft[token])):
            token = rng.categorical(middle)
        tree.append(ROOT, token, RowLaw(middle), source="wrong", confidence=middle[token])
        return no_queries()


class PlainAfterRejection:
    """Draws from the whole target law after a rejection."""

    guarantee: Guarantee = "lossy"

    def judge(self, tree: DraftTree, target: TargetLaw, rng: RandomSource) -> Acceptance:
        nodes: list[int] = []
        node = ROOT
        for child in range(len(tree)):
            law = target(node)
            if not rng.bernoulli(accept_prob(law, tree.token[child], tree.law[child])):
                break
            nodes.append(child)
            node = child
        return accepted_path(tree, nodes, rng.categorical(target(node)))


WRONG: list[tuple[MakeDrafter, AcceptRule, float]] = [
    (lambda: Relabelled(tree_of(2, draw=draw_any), "without"), REJECTION, 0.03),
    (lambda: Relabelled(tree_of(2), "with"), REJECTION, 0.0207407407),
    (lambda: Relabelled(Chain(1, draw=take_best), "row"), REJECTION, 0.3866666667),
    (lambda: Rebuilt(DySpec(2), 0.3, False), REJECTION, 0.2514742193),
    (lambda: TableDrafter(Chain(2)), PlainAfterRejection(), 0.166825),
    (lambda: Rebuilt(tree_of(2), 0.0, True), REJECTION, 0.2279477124),
    (lambda: DroppingChain(Chain(2)), REJECTION, 0.1685),
    (lambda: SloppyHierarchy(Chain(1)), REJECTION, 0.09),
    (CachedDrafter, PlainAfterRejection(), 0.14875),
]


@pytest.mark.parametrize(("make", "rule", "distance"), WRONG)
def test_a_known_mistake_shows_with_its_exact_distance(
    make: MakeDrafter, rule: AcceptRule, distance: float
) -> None:
    law = decoded_law(make, rule)
    assert sum(law.values()) == pytest.approx(1.0, abs=EXACT)
    assert total_variation(law, plain_law()) == pytest.approx(distance, abs=6e-11)


def one_token_law(
    draw_token: Callable[[RandomSource], int], declared: Probs, target: Probs, rule: AcceptRule
) -> list[float]:
    """The law of the first token behind one drawn token."""

    def run(rng: RandomSource) -> int:
        tree = DraftTree(DraftLimits(max_nodes=1))
        tree.append(ROOT, draw_token(rng), RowLaw(declared), source="test", confidence=0.5)
        return rule.judge(tree, lambda node: target, rng).token_ids[0]

    law = enumerate_outcomes(run)
    return [law[token] for token in range(len(target))]


def test_plain_sampling_behind_a_rejected_cached_token_is_biased_as_computed() -> None:
    old, new = np.array([0.5, 0.3, 0.2]), np.array([0.3, 0.3, 0.4])
    wrong = one_token_law(lambda rng: rng.categorical(old), old, new, PlainAfterRejection())
    assert wrong == pytest.approx([0.36, 0.36, 0.28])
    right = one_token_law(lambda rng: rng.categorical(old), old, new, REJECTION)
    assert right == pytest.approx(new, abs=EXACT)


@pytest.mark.parametrize(("is_exact", "expected"), [(False, (0.48, 0.13, 0.39)), (True, None)])
def test_a_middle_level_that_draws_from_its_whole_law_is_biased_as_computed(
    is_exact: bool, expected: tuple[float, ...] | None
) -> None:
    small, middle = np.array([0.2, 0.5, 0.3]), np.array([0.5, 0.3, 0.2])
    target = np.array([0.6, 0.1, 0.3])

    def middle_token(rng: RandomSource) -> int:
        token = rng.categorical(small)
        if rng.bernoulli(accept_prob(middle, token, RowLaw(small))):
            return token
        rest = after_rejection(middle, token, RowLaw(small)) if is_exact else middle
        return rng.categorical(rest)

    found = one_token_law(middle_token, middle, target, REJECTION)
    assert found == pytest.approx(expected or tuple(target), abs=EXACT)


@pytest.mark.parametrize("make", [lambda: TableDrafter(Chain(2)), CachedDrafter])
def test_step_by_step_and_joint_enumeration_agree(make: MakeDrafter) -> None:
    joint = enumerate_outcomes(lambda rng: decode(make(), REJECTION, rng, num_tokens=2))
    assert total_variation(joint, decoded_law(make, REJECTION)) < EXACT


def test_typical_acceptance_is_lossy() -> None:
    law = decoded_law(lambda: TableDrafter(tree_of(2)), Typical())
    assert total_variation(law, plain_law()) > 0.1


def test_the_plain_law_is_the_computed_one() -> None:
    joint = [0.12, 0.09, 0.06, 0.03, 0.03, 0.135, 0.075, 0.06]
    joint += [0.0625, 0.0625, 0.075, 0.05, 0.03, 0.03, 0.03, 0.06]
    assert [round(p, 12) for p in plain_law().values()] == joint
    assert math.isclose(sum(joint), 1.0)
