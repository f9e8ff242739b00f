"""The contract of all drafters in the folder, and what each one proposes."""

import itertools
import pkgutil
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import inference.speculative.drafters as folder
from inference.requests import SamplingParams
from inference.speculative.accept.greedy import Greedy
from inference.speculative.accept.sampling import RecursiveRejection
from inference.speculative.controllers.base import TreeController
from inference.speculative.controllers.dyspec import DySpec, DySpecThreshold
from inference.speculative.controllers.exit_choice import (
    ExitChoice,
    ExitChoiceConfig,
    ExitPlan,
    FixedExit,
)
from inference.speculative.controllers.fixed import Chain, StaticTree, parents_of_widths
from inference.speculative.draft_tree import ROOT, DraftLimits, DraftTree
from inference.speculative.drafters.base import Drafter
from inference.speculative.drafters.composite import CompositeDrafter
from inference.speculative.drafters.early_exit import EarlyExitDrafter
from inference.speculative.drafters.hierarchy import HierarchyDrafter
from inference.speculative.drafters.ngram import NgramConfig, NgramDrafter
from inference.speculative.drafters.small_model import SmallModelDrafter
from inference.speculative.drafters.suffix import SuffixConfig, SuffixDrafter
from inference.speculative.draws import take_best
from inference.speculative.laws import PointLaw, RowLaw
from inference.speculative.proposing import draft_together
from inference.speculative.random_source import PhiloxSource, enumerate_outcomes
from inference.speculative.suffix_corpus import SuffixCorpus
from inference.speculative.target_law import processed_laws
from tests.markov_pair import (
    DRAFT,
    MIDDLE,
    START,
    TARGET,
    TableProvider,
    decode,
    decoded_law,
    plain_law,
    total_variation,
)


def small_model(sampling: SamplingParams | None = None) -> Drafter:
    return SmallModelDrafter(TableProvider(), DySpec(3), sampling)


def early_exit() -> Drafter:
    return EarlyExitDrafter(TableProvider(), FixedExit(ExitPlan(2, Chain(2))))


def hierarchy() -> Drafter:
    return HierarchyDrafter(
        small=TableProvider(DRAFT), controller=Chain(1), middle=TableProvider(MIDDLE), length=2
    )


def ngram() -> Drafter:
    return NgramDrafter(NgramConfig(min_ngram=1))


def suffix() -> Drafter:
    corpus = SuffixCorpus()
    corpus.add([START, 1, 2, 1, 2, 3])
    return SuffixDrafter(shared=corpus)


def composite() -> Drafter:
    return CompositeDrafter([ngram(), small_model()])


BUILDERS: dict[str, Callable[[], Drafter]] = {
    "composite": composite,
    "early_exit": early_exit,
    "hierarchy": hierarchy,
    "ngram": ngram,
    "small_model": small_model,
    "suffix": suffix,
}
CONTEXTS = [[START], [START, 1, 2], [START, 1, 2, 1, 2], [START, 0, 0, 0, 0, 0, 0, 0, 0]]


def proposed(drafter: Drafter, limits: DraftLimits, key: int = 0) -> DraftTree:
    tree = DraftTree(limits)
    draft_together([drafter.propose(tree, PhiloxSource(key, 0, "draft"))])
    tree.check()
    return tree


def nodes_of(tree: DraftTree) -> list[tuple[int, int]]:
    return list(zip(tree.parent, tree.token, strict=True))


def test_every_drafter_of_the_folder_is_tested_here() -> None:
    names = {module.name for module in pkgutil.iter_modules(folder.__path__)} - {"base"}
    assert set(BUILDERS) == names
    for name, build in BUILDERS.items():
        module = __import__(f"inference.speculative.drafters.{name}", fromlist=["DRAFTER"])
        assert isinstance(build(), module.DRAFTER)
        assert isinstance(build(), Drafter)
        assert build().name == name


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("max_nodes", [0, 1, 2, 7])
def test_a_proposal_keeps_its_limits_and_declares_its_laws(
    name: str, context: list[int], max_nodes: int
) -> None:
    drafter = BUILDERS[name]()
    drafter.begin(context)
    limits = DraftLimits(max_nodes=max_nodes, max_depth=2, stop_token_ids=frozenset({3}))
    tree = proposed(drafter, limits)
    assert max(tree.depth, default=0) <= 2
    kinds = {"point" if isinstance(law, PointLaw) else "row" for law in tree.law}
    assert drafter.law_kind == "mixed" or kinds <= {drafter.law_kind}
    assert all(source in BUILDERS for source in tree.source)


@pytest.mark.parametrize("name", BUILDERS)
@settings(max_examples=25, deadline=None)
@given(
    tokens=st.lists(st.integers(0, 3), min_size=0, max_size=12),
    cuts=st.lists(st.integers(0, 12), max_size=3),
)
def test_committing_piece_by_piece_is_beginning_with_all_of_it(
    name: str, tokens: list[int], cuts: list[int]
) -> None:
    whole, pieces = BUILDERS[name](), BUILDERS[name]()
    whole.begin([START, *tokens])
    pieces.begin([START])
    bounds = [0, *sorted(min(cut, len(tokens)) for cut in cuts), len(tokens)]
    for start, stop in itertools.pairwise(bounds):
        proposed(pieces, DraftLimits(max_nodes=4))
        pieces.commit(tokens[start:stop])
    limits = DraftLimits(max_nodes=6)
    assert nodes_of(proposed(whole, limits)) == nodes_of(proposed(pieces, limits))


@pytest.mark.parametrize("name", BUILDERS)
def test_a_reset_drafter_is_like_new(name: str) -> None:
    used, fresh = BUILDERS[name](), BUILDERS[name]()
    used.begin([START, 1, 2, 1, 2, 1])
    proposed(used, DraftLimits(max_nodes=5))
    used.commit([2, 2])
    used.reset()
    for drafter in (used, fresh):
        drafter.begin([START, 2, 2, 2])
    limits = DraftLimits(max_nodes=6)
    assert nodes_of(proposed(used, limits)) == nodes_of(proposed(fresh, limits))


@pytest.mark.parametrize("name", BUILDERS)
def test_two_tokens_have_the_target_law_with_every_drafter(name: str) -> None:
    law = decoded_law(BUILDERS[name], RecursiveRejection(), max_nodes=3)
    assert total_variation(law, plain_law()) < 1e-12


CYCLE = np.eye(4)[[1, 2, 3, 0, 0]]
"""Greedy text behind START: 0 1 2 3 0 1 ..."""


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("max_nodes", [0, 1, 2, 9])
@pytest.mark.parametrize("stops", [frozenset(), frozenset({2})])
@pytest.mark.parametrize("num_tokens", [1, 2, 9])
def test_greedy_text_is_that_of_plain_decoding(
    name: str, max_nodes: int, stops: frozenset[int], num_tokens: int
) -> None:
    plain = [i % 4 for i in range(num_tokens)]
    plain = plain[:3] if stops else plain
    found = decode(
        BUILDERS[name](),
        Greedy(),
        PhiloxSource(5, 0, "draft"),
        num_tokens=num_tokens,
        max_nodes=max_nodes,
        table=CYCLE,
        stop_token_ids=stops,
    )
    assert list(found) == plain


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(temperature=0.6),
        SamplingParams(top_k=2),
        SamplingParams(temperature=0.0),
        SamplingParams(temperature=1.4, top_p=0.8, min_p=0.1),
    ],
)
def test_any_draft_settings_keep_the_target_law(sampling: SamplingParams) -> None:
    law = decoded_law(lambda: small_model(sampling), RecursiveRejection())
    assert total_variation(law, plain_law()) < 1e-12


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(temperature=0.7, top_p=0.8),
        SamplingParams(top_k=2),
        SamplingParams(min_p=0.6),
    ],
)
def test_a_processed_target_is_met_exactly(sampling: SamplingParams) -> None:
    """Draft rows go through the same settings, and through none."""
    table = processed_laws(torch.from_numpy(TARGET).log(), sampling)
    for draft_sampling in (sampling, SamplingParams()):
        law = enumerate_outcomes(
            lambda rng, settings=draft_sampling: decode(  # type: ignore[misc]  # bound early
                SmallModelDrafter(TableProvider(), Chain(2), settings),
                RecursiveRejection(),
                rng,
                num_tokens=2,
                table=table,
            )
        )
        expected = {tokens: prob for tokens, prob in plain_law(table=table).items() if prob > 0.0}
        assert total_variation(law, expected) < 1e-12
        assert law.keys() == expected.keys()


# ------------------------------------------------------------------ n-gram


def test_ngram_copies_behind_the_longest_and_most_recent_match() -> None:
    drafter = NgramDrafter(NgramConfig(length=3))
    drafter.begin([7, 1, 2, 9, 9, 3, 1, 2, 8, 6, 5, 1, 2])
    assert drafter.lookup() == [8, 6, 5]
    drafter.begin([7, 1, 2, 9, 4, 3, 1, 2, 8, 6, 7, 1, 2])
    assert drafter.lookup() == [9, 4, 3]


def test_ngram_copies_across_the_end_only_what_exists() -> None:
    drafter = NgramDrafter()
    drafter.begin([1, 2, 1, 2])
    assert drafter.lookup() == [1, 2]
    drafter.begin([1, 2, 3])
    assert drafter.lookup() == []


def slow_lookup(text: Sequence[int], config: NgramConfig) -> list[int]:
    for size in range(min(config.max_ngram, len(text)), config.min_ngram - 1, -1):
        for start in range(len(text) - size - 1, -1, -1):
            if list(text[start : start + size]) == list(text[-size:]):
                return list(text[start + size : start + size + config.length])
    return []


@given(st.lists(st.integers(0, 2), max_size=25), st.integers(1, 3))
def test_the_ngram_index_finds_what_a_scan_finds(text: list[int], min_ngram: int) -> None:
    config = NgramConfig(min_ngram=min_ngram)
    drafter = NgramDrafter(config)
    drafter.begin(text)
    assert drafter.lookup() == slow_lookup(text, config)


# ------------------------------------------------------------------ suffix


def test_suffix_follows_the_majority_and_multiplies_frequencies() -> None:
    corpus = SuffixCorpus()
    for tail in ([5, 6], [5, 7], [5, 6], [8]):
        corpus.add([1, 2, 3, *tail])
    drafter = SuffixDrafter(shared=corpus)
    drafter.begin([1, 2, 3])
    draft = drafter.lookup()
    assert draft.token_ids == (5, 6)
    assert draft.frequencies == pytest.approx((0.75, 2 / 3))
    assert draft.score == pytest.approx(0.75 + 0.5)


def test_a_text_that_ended_counts_against_going_on() -> None:
    corpus = SuffixCorpus()
    corpus.add([1, 2, 3, 5])
    corpus.add([1, 2, 3, 5, 6])
    drafter = SuffixDrafter(shared=corpus)
    drafter.begin([1, 2, 3])
    assert drafter.lookup().frequencies == pytest.approx((1.0, 0.5))


def test_suffix_prefers_the_match_length_that_promises_more() -> None:
    corpus = SuffixCorpus()
    corpus.add([9, 1, 2, 4, 4, 4])
    for _ in range(3):
        corpus.add([8, 1, 2, 5, 5, 5])
    drafter = SuffixDrafter(shared=corpus)
    drafter.begin([9, 1, 2])
    assert drafter.lookup().token_ids == (4, 4, 4)  # match 3: three sure tokens
    drafter.begin([7, 1, 2])
    assert drafter.lookup().token_ids == (5, 5)  # match 2: at most two tokens


def test_suffix_stops_where_the_product_falls_below_the_bound() -> None:
    corpus = SuffixCorpus()
    for follower in range(20):
        corpus.add([1, 2, 3, 50 + follower])
    drafter = SuffixDrafter(SuffixConfig(min_prob=0.1), corpus)
    drafter.begin([1, 2, 3])
    assert drafter.lookup().token_ids == ()


@given(st.lists(st.lists(st.integers(0, 2), max_size=15), max_size=4), st.integers(2, 5))
def test_suffix_matches_are_those_of_a_scan(texts: list[list[int]], max_match: int) -> None:
    corpus = SuffixCorpus()
    for text in texts:
        corpus.add(text)
    context = [0, 1, 2, 0, 1]
    slow = set()
    for number, text in enumerate(texts):
        for end in range(2, len(text)):
            common = 0
            while common < min(end, max_match) and text[end - 1 - common] == context[-1 - common]:
                common += 1
            if common >= 2:
                slow.add((common, (number, end)))
    assert set(corpus.matches(context, max_match)) == slow


def test_a_corpus_forgets_the_oldest_places() -> None:
    corpus = SuffixCorpus(max_places=2)
    for _ in range(5):
        corpus.add([1, 2, 3])
    assert [place for _, place in corpus.matches([1, 2], 4)] == [(3, 2), (4, 2)]


# ------------------------------------------------------------------ models


def test_level_by_level_drafting_takes_one_forward_per_depth_for_all_requests() -> None:
    provider = TableProvider()
    widths = StaticTree(parents_of_widths([2, 2]))
    drafters = [SmallModelDrafter(provider, widths, request=i) for i in range(3)]
    trees = [DraftTree(DraftLimits(max_nodes=6)) for _ in drafters]
    for drafter in drafters:
        drafter.begin([START])
    num_forwards = draft_together(
        [
            drafter.propose(tree, PhiloxSource(i, 0, "draft"))
            for i, (drafter, tree) in enumerate(zip(drafters, trees, strict=True))
        ]
    )
    assert num_forwards == len(provider.calls) == 2
    assert [[query.request for query in call] for call in provider.calls] == [[0, 1, 2]] * 2
    assert provider.num_rows == 3 * (1 + 2)
    assert [len(tree) for tree in trees] == [6, 6, 6]


def test_a_proposal_does_not_depend_on_the_requests_beside_it() -> None:
    provider = TableProvider()
    controllers: list[TreeController] = [
        DySpec(5),
        Chain(3),
        DySpecThreshold(0.2),
        DySpec(5, draw=take_best),
    ]

    def trees_of(numbers: Sequence[int]) -> list[list[tuple[int, int]]]:
        trees, proposals = [], []
        for number in numbers:
            drafter = SmallModelDrafter(provider, controllers[number], request=number)
            drafter.begin([START])
            trees.append(DraftTree(DraftLimits(max_nodes=8)))
            proposals.append(drafter.propose(trees[-1], PhiloxSource(number, 0, "draft")))
        draft_together(proposals)
        return [nodes_of(tree) for tree in trees]

    assert trees_of([0, 1, 2, 3]) == [trees_of([number])[0] for number in range(4)]


def test_a_query_names_request_context_and_exit_layer() -> None:
    provider = TableProvider()
    drafter = EarlyExitDrafter(provider, FixedExit(ExitPlan(3, Chain(2))), request=17)
    drafter.begin([START])
    drafter.commit([1])
    proposed(drafter, DraftLimits(max_nodes=2))
    queries = [query for call in provider.calls for query in call]
    assert [(q.request, list(q.context), list(q.nodes), q.exit_layer) for q in queries] == [
        (17, [START, 1], [ROOT], 3),
        (17, [START, 1], [0], 3),
    ]


def test_early_exit_with_length_0_asks_for_nothing() -> None:
    provider = TableProvider()
    drafter = EarlyExitDrafter(provider, FixedExit(ExitPlan(3, Chain(0))))
    drafter.begin([START])
    assert len(proposed(drafter, DraftLimits(max_nodes=2))) == 0
    assert provider.calls == []


def test_early_exit_follows_the_online_choice() -> None:
    exits = ExitChoice(ExitChoiceConfig(num_layers=4, exit_layers=(1, 2)))
    drafter = EarlyExitDrafter(TableProvider(), exits)
    drafter.begin([START])
    assert len(proposed(drafter, DraftLimits(max_nodes=9))) == 1


def test_draft_rows_are_the_law_after_processing() -> None:
    drafter = SmallModelDrafter(TableProvider(), Chain(1), SamplingParams(top_k=2))
    drafter.begin([START])
    law = proposed(drafter, DraftLimits(max_nodes=1)).law[0]
    assert isinstance(law, RowLaw)
    assert law.probs == pytest.approx([2 / 3, 0, 0, 1 / 3])


def test_later_drafters_go_through_nodes_that_exist() -> None:
    corpus = SuffixCorpus()
    corpus.add([START, 1, 2, 1, 2, 1, 3, 3])
    drafter = CompositeDrafter([ngram(), SuffixDrafter(shared=corpus)])
    drafter.begin([START, 1, 2, 1, 2])
    tree = proposed(drafter, DraftLimits(max_nodes=9))
    siblings = [tree.child_tokens(node) for node in (ROOT, *range(len(tree)))]
    assert all(len(set(tokens)) == len(tokens) for tokens in siblings)
    assert tree.token == [1, 2, 3, 3]
    assert tree.parent == [ROOT, 0, 0, 2]
    assert tree.source == ["ngram", "ngram", "suffix", "suffix"]


def test_the_middle_model_of_a_hierarchy_declares_its_own_rows() -> None:
    drafter = hierarchy()
    drafter.begin([START])
    tree = proposed(drafter, DraftLimits(max_nodes=3))
    assert len(tree) == 2
    for node, parent in enumerate(tree.parent):
        law = tree.law[node]
        row = MIDDLE[START if parent == ROOT else tree.token[parent]]
        assert isinstance(law, RowLaw)
        assert law.probs == pytest.approx(row)


def test_a_composite_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one drafter"):
        CompositeDrafter([])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NgramConfig(min_ngram=0), "min_ngram=0"),
        (lambda: NgramConfig(min_ngram=5), "max_ngram=4"),
        (lambda: NgramConfig(length=0), "length=0"),
        (lambda: SuffixConfig(min_match=1), "min_match=1"),
        (lambda: SuffixConfig(min_prob=2.0), "min_prob=2.0"),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_target_rows_of_the_pair_are_laws() -> None:
    for table in (TARGET, DRAFT, MIDDLE):
        assert np.abs(table.sum(-1) - 1.0).max() < 1e-12
