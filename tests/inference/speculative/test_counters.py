"""Counters count the bonus token as emitted, never as accepted."""

import pytest

from inference.speculative.accept.base import Acceptance
from inference.speculative.counters import SpeculationCounters
from inference.speculative.draft_tree import ROOT, DraftLimits, DraftTree
from inference.speculative.laws import POINT


def counted() -> SpeculationCounters:
    tree = DraftTree(DraftLimits(max_nodes=4))
    for parent, source in ((ROOT, "a"), (ROOT, "b"), (1, "b"), (2, "b")):
        tree.append(parent, 0, POINT, source=source, confidence=0.5)
    counters = SpeculationCounters()
    counters.count(tree, Acceptance(nodes=(1, 2), token_ids=(0, 0, 5)), draft_forwards=3)
    return counters


def test_one_step_is_counted() -> None:
    counters = counted()
    assert (counters.emitted_tokens, counters.drafted_tokens, counters.accepted_tokens) == (3, 4, 2)
    assert counters.proposed_at_depth == {1: 2, 2: 1, 3: 1}
    assert counters.accepted_at_depth == {1: 1, 2: 1}
    assert counters.accepted_by == {"b": 2}
    assert counters.accepted_frac == 0.5
    assert counters.drafted_per_emitted == pytest.approx(4 / 3)


def test_merged_rates_are_ratios_of_sums() -> None:
    counters, plain = counted(), SpeculationCounters()
    plain.count(DraftTree(DraftLimits(max_nodes=0)), Acceptance(nodes=(), token_ids=(1,)))
    assert (plain.tokens_per_step, plain.accepted_frac, plain.wasted_frac) == (1.0, 0.0, 0.0)
    counters.merge(plain)
    assert counters.tokens_per_step == 2.0
    assert counters.wasted_frac == 0.5
    assert counters.draft_forwards == 3
    assert SpeculationCounters().tokens_per_step == 0.0
