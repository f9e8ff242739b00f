"""Growth of trees with a scripted engine: budget, limits, inputs, fallback, independence, clean-up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.growth import PromptTask, RolloutConfig, grow_trees
from rollout.stopping import StopConfig
from rollout.tree import FinishReason, RolloutTree
from tests.fakes import (
    FakeEngine,
    FakeRequest,
    Script,
    counting_script,
    ending_script,
    fake_logprob,
)

EOS = 0
LETTERS = {token: chr(token) for token in range(32, 127)}


def decode(token_ids: Sequence[int]) -> str:
    """Tokens 32..126 are ASCII; other tokens are written as numbers."""
    return "".join(LETTERS.get(token, f"<{token}>") for token in token_ids if token != EOS)


def task(name: str = "q", prompt: Sequence[int] = (1, 2, 3)) -> PromptTask:
    return PromptTask(prompt_id=name, token_ids=prompt, example={"answer": name})


def grow(
    engine: FakeEngine,
    config: RolloutConfig,
    tasks: Sequence[PromptTask] | None = None,
    seed: int = 0,
) -> list[RolloutTree]:
    tasks = [task()] if tasks is None else tasks
    return grow_trees(engine, tasks, config, decode=decode, eos_token_ids={EOS}, seed=seed)


def texts(*segments: str) -> Script:
    """Every path writes the same segments; '$' is EOS."""

    def script(request: FakeRequest) -> list[int]:
        written = len(request.input_ids) - request.prompt_length
        rest = "".join(segments)[written:]
        return [EOS if char == "$" else ord(char) for char in rest]

    return script


def stops_at(stops: dict[int, int]) -> tuple[FakeEngine, dict[int, int]]:
    """An engine that ends `stops[s]` of the requests of step s; and the counter of what it ended."""
    ended: Counter[int] = Counter()

    def script(request: FakeRequest) -> list[int]:
        if ended[request.step] < stops.get(request.step, 0):
            ended[request.step] += 1
            return [EOS]
        return counting_script(request)

    return FakeEngine(script=script), ended


def requests_per_step(engine: FakeEngine) -> list[int]:
    counts = Counter(request.step for request, _ in engine.log)
    return [counts[step] for step in range(engine.num_steps)]


def finishes(tree: RolloutTree) -> Counter[FinishReason | None]:
    return Counter(tree.segments[leaf].finish for leaf in tree.leaves)


def assert_inputs_match(engine: FakeEngine, trees: Sequence[RolloutTree]) -> None:
    """Every segment was written after exactly the recorded prefix, and nothing else was requested."""
    recorded = Counter(
        (tree.prefix_ids(segment.parent), segment.token_ids)
        for tree in trees
        for segment in tree.segments
        if segment.parent is not None
    )
    assert recorded == Counter((request.input_ids, tokens) for request, tokens in engine.log)


@pytest.mark.parametrize(
    ("stops", "expected"),
    [
        ({}, [2, 4, 8, 16, 16, 16]),
        ({1: 1}, [2, 4, 8, 15, 15, 15]),
        ({2: 3, 3: 2}, [2, 4, 8, 13, 11, 11]),
    ],
)
def test_budget_table(stops: dict[int, int], expected: list[int]) -> None:
    engine, _ = stops_at(stops)
    (tree,) = grow(engine, RolloutConfig(max_segments=6, segment_length=2))
    assert requests_per_step(engine) == expected
    assert len(tree.leaves) == 16
    assert tree.num_fallback_paths == 0


@pytest.mark.parametrize(
    ("depth", "branching", "saved_percent"),
    [
        (56, 2, 3.79),
        (56, 4, 1.34),
        (56, 8, 0.89),
        (28, 2, 7.59),
        (28, 4, 2.68),
        (28, 8, 1.79),
        (14, 2, 15.18),
        (14, 4, 5.36),
        (14, 8, 3.57),
        (7, 2, 30.36),
        (7, 4, 10.71),
        (7, 8, 7.14),
    ],
)
def test_cost_model(depth: int, branching: int, saved_percent: float) -> None:
    engine = FakeEngine()
    config = RolloutConfig(max_segments=depth, segment_length=2, branching=branching)
    (tree,) = grow(engine, config)
    num_written = sum(len(tokens) for _, tokens in engine.log)
    assert num_written == tree.num_sampled_tokens
    assert 100 * (1 - num_written / (16 * depth * 2)) == pytest.approx(saved_percent, abs=0.005)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_random_stop_patterns_keep_every_invariant(data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 20), "width")
    low = data.draw(st.integers(1, width), "low")
    max_segments = data.draw(st.integers(1, 6), "d")
    segment_length = data.draw(st.integers(1, 4), "l")
    config = RolloutConfig(
        width=width,
        max_segments=max_segments,
        segment_length=segment_length,
        max_response_tokens=data.draw(st.integers(1, max_segments * segment_length), "limit"),
        branching=data.draw(st.integers(1, 4), "N"),
        initial_divergence=data.draw(st.sampled_from([None, low, (low, width)]), "k"),
        fallback=data.draw(st.booleans(), "fallback"),
        branch_policy=data.draw(st.sampled_from(["even", "tests.fakes:GreedyBranching"]), "policy"),
    )
    engine = FakeEngine(script=ending_script(EOS, data.draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))))
    (tree,) = grow(engine, config, seed=data.draw(st.integers(0, 99), "seed"))
    assert len(tree.leaves) == width == len(set(tree.leaves))
    assert_inputs_match(engine, [tree])
    assert_leaves_and_active_fit(engine, tree, width)
    assert_tree_is_sound(tree, config)
    assert engine.num_open == 0
    assert len({request.key for request, _ in engine.log}) == len(engine.log)


def assert_leaves_and_active_fit(engine: FakeEngine, tree: RolloutTree, width: int) -> None:
    """At every step: leaves so far + active paths <= width."""
    steps = [request.step for request, _ in engine.log]  # request i wrote segment i + 1
    for step in set(steps):
        num_leaves = sum(
            tree.segments[i + 1].finish is not None for i, s in enumerate(steps) if s < step
        )
        assert num_leaves + steps.count(step) <= width


def assert_tree_is_sound(tree: RolloutTree, config: RolloutConfig) -> None:
    """Leaves have no children, all other segments have; lengths and limits hold."""
    parents = {segment.parent for segment in tree.segments}
    for segment in tree.segments:
        assert (segment.id in parents) == (segment.finish is None)
        assert segment.parent is None or 1 <= len(segment.token_ids) <= config.segment_length
    for row in tree.trajectories():
        num_tokens = sum(row.loss_mask)
        assert len(row.path) - 1 <= config.max_segments
        assert 1 <= num_tokens <= config.response_limit
        assert (row.finish is FinishReason.EOS) == (row.token_ids[-1] == EOS)
        assert (num_tokens == config.response_limit) or row.finish is FinishReason.EOS
    assert sum(tree.leaf_weights()) == pytest.approx(1.0)


def test_recorded_numbers_are_the_engines() -> None:
    engine = FakeEngine(policy_version=7)
    (tree,) = grow(engine, RolloutConfig(width=2, max_segments=2, segment_length=3))
    row = tree.trajectory(tree.leaves[0])
    assert row.logprobs[3:] == tuple(map(fake_logprob, row.token_ids[3:]))
    assert row.entropies == (0.0,) * 3 + (0.5,) * 6
    assert {segment.policy_version for segment in tree.segments} == {7}
    assert tree.example == {"answer": "q"}


def test_eos_as_first_token_of_a_segment_ends_the_response() -> None:
    config = RolloutConfig(width=2, max_segments=4, segment_length=3)
    (tree,) = grow(FakeEngine(script=texts("abc", "$")), config)
    rows = tree.trajectories()
    assert [row.token_ids[3:] for row in rows] == [(97, 98, 99, EOS)] * 2
    assert finishes(tree) == {FinishReason.EOS: 2}


def test_box_and_eos_in_one_segment_is_finished() -> None:
    config = RolloutConfig(width=2, max_segments=2, segment_length=20)
    (tree,) = grow(FakeEngine(script=texts(r"so \boxed{4}$")), config)
    assert finishes(tree) == {FinishReason.FINISHED: 2}


def test_box_across_a_boundary_is_seen() -> None:
    config = RolloutConfig(
        width=2, max_segments=9, segment_length=4, stop=StopConfig(box_mode="first")
    )
    (tree,) = grow(FakeEngine(script=texts(r"\boxed{12}", " and on")), config)
    assert finishes(tree) == {FinishReason.FINISHED: 2}
    assert [len(row.path) - 1 for row in tree.trajectories()] == [3, 3]


def test_box_without_eos_goes_on_in_eos_mode() -> None:
    config = RolloutConfig(width=2, max_segments=9, segment_length=4)
    (tree,) = grow(FakeEngine(script=texts(r"\boxed{12}", " and on$")), config)
    assert finishes(tree) == {FinishReason.FINISHED: 2}
    assert all(row.token_ids[-1] == EOS for row in tree.trajectories())


def test_response_of_exactly_the_limit_is_truncated_not_finished() -> None:
    config = RolloutConfig(width=4, max_segments=3, segment_length=4)
    (tree,) = grow(FakeEngine(), config)
    assert finishes(tree) == {FinishReason.MAX_TOKENS: 4}
    assert {sum(row.loss_mask) for row in tree.trajectories()} == {12}


def test_limit_inside_a_segment_shortens_the_request() -> None:
    engine = FakeEngine()
    config = RolloutConfig(width=4, max_segments=3, segment_length=4, max_response_tokens=10)
    (tree,) = grow(engine, config)
    assert finishes(tree) == {FinishReason.MAX_TOKENS: 4}
    assert {sum(row.loss_mask) for row in tree.trajectories()} == {10}
    assert {request.max_new_tokens for request, _ in engine.log} == {4, 2}


def test_depth_ends_a_path_that_an_engine_keeps_short() -> None:
    config = RolloutConfig(width=2, max_segments=2, segment_length=4)
    (tree,) = grow(FakeEngine(script=lambda request: [65, 66]), config)
    assert finishes(tree) == {FinishReason.MAX_SEGMENTS: 2}


def test_repetitive_segment_ends_the_path() -> None:
    config = RolloutConfig(width=2, max_segments=3, segment_length=39)
    (tree,) = grow(FakeEngine(script=lambda request: [120] * 39), config)
    assert finishes(tree) == {FinishReason.REPETITION: 2}
    assert {len(row.path) for row in tree.trajectories()} == {2}


def test_when_all_leaves_are_truncated_the_prompt_is_restarted() -> None:
    engine = FakeEngine()
    config = RolloutConfig(width=8, max_segments=2, segment_length=2, initial_divergence=2)
    (tree,) = grow(engine, config)
    restarts = [request.step for request, _ in engine.log if request.input_ids == (1, 2, 3)]
    assert requests_per_step(engine) == [2, 4, 2, 4]
    assert restarts == [0, 0, 2, 2]
    assert finishes(tree) == {FinishReason.MAX_TOKENS: 8}
    assert tree.num_fallback_paths == 2


def test_fallback_inputs_are_shortened_responses() -> None:
    config = RolloutConfig(width=16, max_segments=6, segment_length=2)
    engine = FakeEngine(script=ending_script(EOS, 0.3))
    trees = grow(engine, config, [task(f"q{i}", [i + 1, 5]) for i in range(80)])
    assert_inputs_match(engine, trees)
    assert sum(tree.num_fallback_paths for tree in trees) > 100
    deep = [r for r, _ in engine.log if len(r.input_ids) - r.prompt_length >= 2]
    assert len(deep) > 100


def test_fallback_boundaries_are_uniform_over_the_segments() -> None:
    engine = FakeEngine(script=texts("ab", "cd", "ef", "g$"))
    config = RolloutConfig(
        width=2, max_segments=4, segment_length=2, initial_divergence=1, branching=1
    )
    num_prompts = 1000
    trees = grow(engine, config, [task(f"q{i}") for i in range(num_prompts)])
    assert {tree.num_fallback_paths for tree in trees} == {1}
    kept = Counter(
        len(set(a.path) & set(b.path)) - 1 for a, b in map(RolloutTree.trajectories, trees)
    )
    assert set(kept) == {0, 1, 2, 3}
    # 5 standard deviations of a binomial count
    assert all(abs(n - num_prompts / 4) < 5 * (num_prompts * 3 / 16) ** 0.5 for n in kept.values())
    assert {tree.segments[leaf].finish for tree in trees for leaf in tree.leaves} == {
        FinishReason.EOS
    }


def test_without_fallback_missing_leaves_start_at_the_prompt() -> None:
    engine = FakeEngine(script=texts("ab", "cd", "$"))
    config = RolloutConfig(width=10, max_segments=5, segment_length=2, fallback=False)
    (tree,) = grow(engine, config)
    assert requests_per_step(engine) == [2, 4, 8, 2, 2, 2]
    assert {r.input_ids for r, _ in engine.log if r.step == 3} == {(1, 2, 3)}
    assert tree.num_fallback_paths == 2


@pytest.mark.parametrize("branching", [1, 2, 4])
def test_flat_sampling_is_independent_samples(branching: int) -> None:
    config = RolloutConfig(
        width=6, max_segments=4, segment_length=3, branching=branching, initial_divergence=6
    )
    engine = FakeEngine(script=ending_script(EOS, 0.1))
    (tree,) = grow(engine, config)
    assert tree.num_fallback_paths == 0
    assert tree.child_counts()[0] == 6
    assert max(tree.child_counts()[1:]) == 1
    assert tree.leaf_weights() == pytest.approx((1 / 6,) * 6)
    assert (
        tree.num_trajectory_tokens - tree.num_distinct_tokens == 5 * 3
    )  # only the prompt is shared


def test_branching_one_is_flat_sampling_by_default() -> None:
    shape = {"width": 6, "max_segments": 4, "segment_length": 3}
    script = ending_script(EOS, 0.1)
    (default,) = grow(FakeEngine(script=script), RolloutConfig(**shape, branching=1))  # type: ignore[arg-type]  # ints only
    flat_config = RolloutConfig(**shape, branching=3, initial_divergence=6)  # type: ignore[arg-type]  # ints only
    (flat,) = grow(FakeEngine(script=script), flat_config)
    assert default == flat


def test_random_divergence_differs_between_prompts_and_stays_in_range() -> None:
    config = RolloutConfig(width=16, max_segments=8, segment_length=2, initial_divergence=(2, 8))
    engine = FakeEngine()
    trees = grow(engine, config, [task(f"q{i}") for i in range(60)])
    counts = Counter(tree.child_counts()[0] for tree in trees)
    assert set(counts) == set(range(2, 9))


def trees_by_id(trees: Sequence[RolloutTree]) -> dict[str, RolloutTree]:
    return {tree.prompt_id: tree for tree in trees}


def test_trees_do_not_depend_on_order_companions_or_timing() -> None:
    config = RolloutConfig(width=8, max_segments=5, segment_length=3, initial_divergence=(2, 5))
    script = ending_script(EOS, 0.4)
    tasks = [task(f"q{i}", [1, 2 + i]) for i in range(6)]
    together = trees_by_id(grow(FakeEngine(script=script), config, tasks))
    slow = FakeEngine(script=script, one_token_per_step=True, shuffle_seed=5)
    backwards = trees_by_id(grow(slow, config, tasks[::-1]))
    alone = trees_by_id([grow(FakeEngine(script=script), config, [each])[0] for each in tasks])
    assert together == backwards == alone
    assert sum(tree.num_fallback_paths for tree in alone.values()) > 0


def test_seed_and_repeated_prompt_give_other_trees() -> None:
    config = RolloutConfig(width=2, max_segments=2, segment_length=3)
    first, second = grow(FakeEngine(), config, [task(), task()])
    assert first.segments[1].token_ids != second.segments[1].token_ids
    (alone,) = grow(FakeEngine(), config)
    assert alone == first
    (other,) = grow(FakeEngine(), config, seed=1)
    assert other.segments[1].token_ids != first.segments[1].token_ids


def test_prompts_do_not_wait_for_each_other() -> None:
    def script(request: FakeRequest) -> list[int]:
        is_fast = request.input_ids[0] == 1
        return [65] if is_fast else counting_script(request)

    engine = FakeEngine(script=script, one_token_per_step=True)
    config = RolloutConfig(width=2, max_segments=3, segment_length=5)
    grow(engine, config, [task("fast", [1]), task("slow", [2])])
    fast_steps = sorted({r.step for r, _ in engine.log if r.input_ids[0] == 1})
    slow_steps = sorted({r.step for r, _ in engine.log if r.input_ids[0] == 2})
    assert fast_steps == [0, 1, 2]
    assert slow_steps == [0, 5, 10]


def test_flat_sampling_closes_the_prompt_before_the_first_step() -> None:
    engine = FakeEngine()
    grow(engine, RolloutConfig(width=4, max_segments=3, segment_length=2, initial_divergence=4))
    assert engine.open_at_step == [4, 4, 4]
    assert engine.num_open == 0


def test_sources_of_fallback_are_closed_when_enough_paths_are_under_way() -> None:
    engine, _ = stops_at({0: 1})
    grow(engine, RolloutConfig(width=4, max_segments=3, segment_length=2))
    assert requests_per_step(engine) == [2, 3, 3]  # one stops, the other gets the 3 missing leaves
    assert engine.open_at_step == [3, 3, 3]  # the prompt and 2 paths, then only the 3 paths
    assert engine.num_open == 0


def test_all_paths_are_closed_after_a_failed_step() -> None:
    for step in (1, 2, 3, 4, 5):
        engine = FakeEngine(script=ending_script(EOS, 0.3), fail_at_step=step)
        config = RolloutConfig(width=8, max_segments=8, segment_length=2)
        with pytest.raises(RuntimeError, match="scripted failure"):
            grow(engine, config, [task("a"), task("b")])
        assert (engine.num_open, engine.has_work) == (0, False)


@pytest.mark.parametrize("call", [1, 2, 5, 9])
def test_all_paths_are_closed_when_decode_or_submit_raises(call: int) -> None:
    config = RolloutConfig(width=8, max_segments=8, segment_length=2)

    def failing_script(request: FakeRequest) -> list[int]:
        if len(submitting.log) + 1 == call:
            raise RuntimeError("no room")
        return counting_script(request)

    submitting = FakeEngine(script=failing_script, one_token_per_step=True)
    with pytest.raises(RuntimeError, match="no room"):
        grow(submitting, config, [task("a"), task("b")])
    assert (submitting.num_open, submitting.has_work) == (0, False)

    calls: list[Sequence[int]] = []

    def failing_decode(token_ids: Sequence[int]) -> str:
        calls.append(token_ids)
        if len(calls) == call:
            raise RuntimeError("bad token")
        return ""

    decoding = FakeEngine(shuffle_seed=1)
    tasks = [task("a"), task("b")]
    with pytest.raises(RuntimeError, match="bad token"):
        grow_trees(decoding, tasks, config, decode=failing_decode, eos_token_ids={EOS}, seed=0)
    assert (decoding.num_open, decoding.has_work) == (0, False)


def test_progress_counts_leaves_up_to_all() -> None:
    seen: list[tuple[int, int]] = []
    grow_trees(
        FakeEngine(script=ending_script(EOS, 0.3)),
        [task("a"), task("b")],
        RolloutConfig(width=4, max_segments=3, segment_length=2),
        decode=decode,
        eos_token_ids=[EOS],
        seed=0,
        on_progress=lambda done, wanted: seen.append((done, wanted)),
    )
    assert seen == sorted(seen)
    assert seen[-1] == (8, 8)


def test_no_prompts_give_no_trees() -> None:
    assert grow(FakeEngine(), RolloutConfig(), []) == []


def test_an_engine_that_drops_a_request_is_noticed() -> None:
    class Forgetful(FakeEngine):
        @property
        def has_work(self) -> bool:
            return False

    with pytest.raises(AssertionError, match="dropped a request"):
        grow(Forgetful(), RolloutConfig(width=2, max_segments=1, segment_length=1))
