"""The arrays of a draft tree: parents, depths, mask, positions, orders."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.speculative.draft_tree import ROOT, DraftLimits, DraftTree
from inference.speculative.laws import POINT, RowLaw


def tree_with(parents: list[int], **limits: int) -> DraftTree:
    tree = DraftTree(DraftLimits(max_nodes=limits.get("max_nodes", 64)))
    for token, parent in enumerate(parents):
        tree.append(parent, token, POINT, source="test", confidence=0.5)
    return tree


PARENTS = [-1, 0, 0, 1, 1, 2, 3, 3]


def num_blocks(tree: DraftTree, order: list[int], block: int) -> tuple[int, int]:
    """Blocks of the mask that hold a visible entry, and visible entries, in the given node order."""
    visible = tree.visible()[np.ix_(order, order)]
    size = len(order) // block
    blocks = visible.reshape(size, block, size, block).any(axis=(1, 3))
    return int(blocks.sum()), int(visible.sum())


def test_paths_children_depths_and_positions_agree_with_the_picture() -> None:
    tree = DraftTree(DraftLimits(max_nodes=4))
    for parent, token in ((ROOT, 7), (ROOT, 3), (0, 7), (0, 5)):
        tree.append(parent, token, POINT, source="test", confidence=1.0)
    assert tree.depth == [1, 1, 2, 2]
    assert tree.child_tokens(ROOT) == (7, 3)
    assert list(tree.children(0)) == [2, 3]
    assert tree.path_tokens(3) == [7, 5]
    assert tree.path_tokens(ROOT) == []
    assert tree.positions(10).tolist() == [10, 10, 11, 11]
    assert tree.visible().astype(int).tolist() == [
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [1, 0, 1, 0],
        [1, 0, 0, 1],
    ]
    assert tree.num_at_depth() == [2, 2]


def test_depth_first_order_needs_fewer_blocks() -> None:
    tree = tree_with(PARENTS)
    assert tree.depth_first() == [0, 1, 3, 6, 7, 4, 2, 5]
    assert num_blocks(tree, list(range(8)), 2) == (9, 22)
    assert num_blocks(tree, tree.depth_first(), 2) == (8, 22)


@given(st.data())
def test_a_node_sees_exactly_itself_and_its_ancestors(data: st.DataObject) -> None:
    size = data.draw(st.integers(0, 12))
    tree = tree_with([data.draw(st.integers(-1, node - 1)) for node in range(size)])
    tree.check()
    for node, row in enumerate(tree.visible()):
        assert np.flatnonzero(row).tolist() == tree.path(node)
    assert sorted(tree.depth_first()) == list(range(size))
    assert sum(tree.num_at_depth()) == size


def test_limits_close_a_tree() -> None:
    tree = DraftTree(DraftLimits(max_nodes=3, max_depth=2, stop_token_ids=frozenset({9})))
    tree.append(ROOT, 9, POINT, source="test", confidence=1.0)
    assert not tree.can_grow(0)
    tree.append(ROOT, 1, POINT, source="test", confidence=1.0)
    tree.append(1, 1, POINT, source="test", confidence=1.0)
    assert not tree.can_grow(ROOT)
    assert not tree.can_grow(2)
    with pytest.raises(AssertionError, match="cannot have a child"):
        tree.append(ROOT, 2, POINT, source="test", confidence=1.0)


def test_check_finds_a_token_that_its_law_cannot_draw() -> None:
    tree = DraftTree(DraftLimits(max_nodes=1))
    tree.append(ROOT, 0, RowLaw(np.array([0.0, 1.0])), source="test", confidence=0.0)
    with pytest.raises(AssertionError, match="cannot draw token 0"):
        tree.check()


@pytest.mark.parametrize("wrong", [{"max_nodes": -1}, {"max_nodes": 1, "max_depth": -1}])
def test_negative_limits_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="is negative"):
        DraftLimits(**wrong)  # type: ignore[arg-type]  # only the integer fields are given
