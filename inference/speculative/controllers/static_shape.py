"""The best static tree: Sequoia's dynamic program, and paths of guesses by measured accuracy.

Sequoia (arXiv 2402.12374, section 3.1): with r_b = probability that the b-th child of a node is the accepted one,
G(m, l, b) is the best expected size of the accepted part of a tree with m nodes (root included), depth at
most l, whose root has b children:

    G(1, l, 0) = 1
    G(m, l, b) = max over 1 <= y < m of G(y, l, b-1) + r_b * max_b' G(m-y, l-1, b')

Guess paths (Medusa, PPD, arXiv 2405.18628): a path of ranks is worth the product of the
accuracies of its ranks; the n best paths are closed under prefixes.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A static tree and what it promises."""

    parents: tuple[int, ...]
    """Parent of each draft node, -1 = root; for `StaticTree`. The root itself is not listed."""
    expected_tokens: float
    """Expected tokens per target forward, bonus token included."""
    depth: int
    """Draft forwards that it takes."""


def best_shape(child_rates: Sequence[float], *, num_nodes: int, max_depth: int) -> Shape:
    """Return the tree of at most `num_nodes` draft nodes that is accepted the longest.

    Args:
        child_rates: r_1, r_2, ...: probability that the b-th child is the accepted one; sum at most 1. A
            node has at most as many children.
        num_nodes: Draft nodes, root not counted; m - 1 in the formula.
        max_depth: Longest path; l in the formula.
    """
    _check_rates(child_rates)
    if num_nodes < 0 or max_depth < 0:
        raise ValueError(f"num_nodes={num_nodes} and max_depth={max_depth} must not be negative")
    search = _ShapeSearch(child_rates)
    size = max(range(1, num_nodes + 2), key=lambda size: search.best(size, max_depth).value)
    parents = search.parents(size, max_depth)
    return Shape(
        parents=tuple(parents),
        expected_tokens=search.best(size, max_depth).value,
        depth=max(_depths(parents), default=0),
    )


def fastest_shape(
    child_rates: Sequence[float],
    *,
    max_nodes: int,
    max_depth: int,
    draft_s: float,
    target_s: Callable[[int], float],
) -> Shape:
    """Return the shape with the least time per token, (l * draft + target(m)) / G.

    Args:
        child_rates: As in `best_shape`.
        max_nodes: Largest number of draft nodes to consider.
        max_depth: Largest depth to consider.
        draft_s: Seconds of one draft forward, whatever the number of nodes.
        target_s: Seconds of a target forward over m nodes, root included.
    """
    shapes = [
        best_shape(child_rates, num_nodes=nodes, max_depth=depth)
        for nodes in range(max_nodes + 1)
        for depth in range(max_depth + 1)
    ]
    return min(
        shapes,
        key=lambda s: (s.depth * draft_s + target_s(len(s.parents) + 1)) / s.expected_tokens,
    )


def best_guess_paths(
    accuracy: Sequence[Sequence[float]], num_paths: int
) -> list[tuple[tuple[int, ...], float]]:
    """Return the paths of ranks with the largest products and the products, best first.

    Of equal products the shorter path comes first, then the lower ranks.

    Args:
        accuracy: Row d, column r: probability that the rank-r guess for depth d is right; columns do not
            increase.
        num_paths: How many; fewer if there are no more.

    Example:
        Rows (.6, .15) and (.4, .12), 3 paths: (0) .6, (0, 0) .24, (1) .15.
    """
    heap: list[tuple[float, int, tuple[int, ...]]] = []  # -value, length, path

    def push(path: tuple[int, ...]) -> None:
        depth, rank = len(path), path[-1]
        if depth <= len(accuracy) and rank < len(accuracy[depth - 1]):
            value = math.prod(row[r] for row, r in zip(accuracy, path, strict=False))
            heapq.heappush(heap, (-value, depth, path))

    push((0,))
    paths: list[tuple[tuple[int, ...], float]] = []
    while heap and len(paths) < num_paths:
        negative, _, path = heapq.heappop(heap)
        paths.append((path, -negative))
        push((*path, 0))
        push((*path[:-1], path[-1] + 1))
    return paths


def best_num_guesses(
    accuracy: Sequence[Sequence[float]], latency: Mapping[int, float]
) -> tuple[int, float]:
    """Return the number n of guess paths with the largest tau(n) / latency(n), and that ratio.

    tau(n) = 1 + sum of the values of the n best paths.

    Args:
        accuracy: As in `best_guess_paths`.
        latency: Measured time of a target forward with n draft nodes, relative to plain decoding.
    """
    values = [value for _, value in best_guess_paths(accuracy, max(latency))]
    ratios = {num: (1.0 + sum(values[:num])) / time for num, time in latency.items()}
    best = max(ratios, key=lambda num: ratios[num])
    return best, ratios[best]


class _Option(NamedTuple):
    """A value of G, and the sizes of the subtrees of the root's children that reach it."""

    value: float
    sizes: tuple[int, ...]


_IMPOSSIBLE = _Option(-math.inf, ())


class _ShapeSearch:
    """The dynamic program with its memory; sizes include the root, as m does."""

    def __init__(self, child_rates: Sequence[float]) -> None:
        self._rates = tuple(child_rates)
        self.best = cache(self._best)
        self._with = cache(self._with_children)

    def parents(self, size: int, depth: int) -> list[int]:
        """Return the parents of the best tree, children of a node side by side."""
        parents: list[int] = []
        open_nodes = [(-1, size, depth)]
        for node, size, depth in open_nodes:
            for child_size in self.best(size, depth).sizes:
                open_nodes.append((len(parents), child_size, depth - 1))
                parents.append(node)
        return parents

    def _best(self, size: int, depth: int) -> _Option:
        """max_b G(size, depth, b)."""
        return max(self._with(size, depth, num) for num in range(len(self._rates) + 1))

    def _with_children(self, size: int, depth: int, num: int) -> _Option:
        """G(size, depth, num)."""
        if num == 0:
            return _Option(1.0, ()) if size == 1 else _IMPOSSIBLE
        if depth == 0 or size <= num:
            return _IMPOSSIBLE
        options = []
        for rest in range(num, size):
            before = self._with(rest, depth, num - 1)
            gain = self._rates[num - 1] * self.best(size - rest, depth - 1).value
            options.append(_Option(before.value + gain, (*before.sizes, size - rest)))
        return max(options)


def _check_rates(child_rates: Sequence[float]) -> None:
    if any(rate < 0.0 for rate in child_rates) or sum(child_rates) > 1.0 + 1e-9:
        raise ValueError(
            f"child_rates={list(child_rates)} must be probabilities of exclusive events: not negative, "
            "sum at most 1"
        )


def _depths(parents: Sequence[int]) -> list[int]:
    depths: list[int] = []
    for parent in parents:
        depths.append(1 if parent < 0 else depths[parent] + 1)
    return depths
