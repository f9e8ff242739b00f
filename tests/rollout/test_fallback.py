"""Where new paths start when a prompt has no active path left."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from rollout.fallback import plan_fallback


@given(
    depths=st.lists(st.integers(1, 6), max_size=8),
    missing=st.integers(1, 20),
    branching=st.integers(1, 4),
    num_restarts=st.integers(1, 8),
    seed=st.integers(0, 999),
)
def test_plan_starts_what_is_missing_and_drops_at_least_one_segment(
    depths: list[int], missing: int, branching: int, num_restarts: int, seed: int
) -> None:
    forks = plan_fallback(
        depths,
        missing=missing,
        branching=branching,
        num_restarts=num_restarts,
        rng=random.Random(seed),
    )
    capacity = branching * len(depths) if depths else num_restarts
    assert sum(fork.num_paths for fork in forks) == min(missing, capacity)
    candidates = [fork.candidate for fork in forks if fork.candidate is not None]
    assert len(set(candidates)) == len(candidates)
    for fork in forks:
        assert 1 <= fork.num_paths <= (branching if depths else num_restarts)
        assert fork.candidate is None or 0 <= fork.num_kept < depths[fork.candidate]


def test_without_candidates_the_prompt_is_restarted() -> None:
    (fork,) = plan_fallback([], missing=3, branching=2, num_restarts=8, rng=random.Random(0))
    assert (fork.candidate, fork.num_kept, fork.num_paths) == (None, 0, 3)


def test_boundary_and_candidate_are_uniform() -> None:
    num_draws = 4000
    rng = random.Random(1)
    kept: Counter[int] = Counter()
    chosen: Counter[int | None] = Counter()
    for _ in range(num_draws):
        (fork,) = plan_fallback([4, 4, 4, 4, 4], missing=1, branching=2, num_restarts=2, rng=rng)
        kept[fork.num_kept] += 1
        chosen[fork.candidate] += 1
    # 5 standard deviations of a binomial count
    for counts, num_cells in ((kept, 4), (chosen, 5)):
        share = 1 / num_cells
        tolerance = 5 * (num_draws * share * (1 - share)) ** 0.5
        assert len(counts) == num_cells
        assert all(abs(count - num_draws * share) < tolerance for count in counts.values())
