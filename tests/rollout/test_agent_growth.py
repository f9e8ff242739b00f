"""Growth with environments and a scripted engine: cuts, observations, isolation, fallback, failures."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest

from rollout.config import PromptTask, RolloutConfig
from rollout.dump import tree_text
from rollout.envs.calculator import Calculator
from rollout.envs.config import EnvConfig
from rollout.growth import grow_trees
from rollout.stats import growth_stats
from rollout.stopping import StopConfig
from rollout.tree import FinishReason, RolloutTree, Trajectory
from tests.fakes import FakeEngine, FakeRequest, Script

EOS = 0
CALCULATOR = EnvConfig(type="calculator", piece_tokens=7, num_threads=3)
TROUBLE = EnvConfig(type="tests.fake_environments:Trouble", piece_tokens=5, step_timeout_s=5.0)
Policy = Callable[[str, random.Random], str]
"""The next turn, given the response so far (up to an observation) and the key's own numbers."""


def decode(token_ids: Sequence[int]) -> str:
    return "".join(map(chr, (token for token in token_ids if token != EOS)))


def encode(text: str) -> list[int]:
    return [ord(char) for char in text]


def plays(policy: Policy, closing: str = "</result>\n") -> Script:
    """An agent that writes the policy's turns, and nonsense behind the end of each; '$' is EOS."""

    def script(request: FakeRequest) -> list[int]:
        text = decode(request.input_ids[request.prompt_length :])
        head, found, turn = text.rpartition(closing)
        head = head + found if found else ""
        turn = turn if found else text
        rest = policy(head, random.Random(request.key))[len(turn) :] + "JUNK" * 300
        return [EOS if char == "$" else ord(char) for char in rest]

    return script


def config(env: EnvConfig = CALCULATOR, **fields: object) -> RolloutConfig:
    shape: dict[str, object] = {"width": 4, "segment_length": 40, "max_segments": 8, **fields}
    return RolloutConfig(env=env, **shape)  # type: ignore[arg-type]  # the fields of the tests


def task(name: str = "q", **example: object) -> PromptTask:
    return PromptTask(prompt_id=name, token_ids=encode(f"{name}?"), example=example)


def grow(
    engine: FakeEngine,
    rollout: RolloutConfig,
    tasks: Sequence[PromptTask] | None = None,
) -> list[RolloutTree]:
    return grow_trees(
        engine,
        [task()] if tasks is None else tasks,
        rollout,
        decode=decode,
        eos_token_ids={EOS},
        seed=0,
        encode=encode,
    )


def response(tree: RolloutTree, row: Trajectory) -> str:
    return decode(row.token_ids[len(tree.segments[0].token_ids) :])


def responses(tree: RolloutTree) -> list[str]:
    return [response(tree, row) for row in tree.trajectories()]


def finishes(tree: RolloutTree) -> Counter[FinishReason]:
    return Counter(row.finish for row in tree.trajectories())


def shape(tree: RolloutTree) -> list[tuple[object, ...]]:
    return [(s.parent, s.token_ids, s.sampled, s.finish) for s in tree.segments]


def random_calculations(head: str, rng: random.Random) -> str:
    """Two to four queries that use the memory, then an answer; sometimes the model just stops."""
    if rng.random() < 0.1:
        return "I give up.$"
    if head.count("<result>") >= 2 + rng.randrange(3):
        return "So <answer>42</answer>"
    return f"Hm <calc>ans * 10 + {rng.randrange(10)}</calc>"


def transcript(text: str) -> Iterator[tuple[str, str]]:
    """(turn, observation) pairs of a response, the last observation empty."""
    *steps, last = text.split("</result>\n")
    for step in steps:
        turn, observation = step.split("\n<result>")
        yield turn, observation
    yield last, ""


def test_a_segment_ends_with_the_token_that_completes_the_action() -> None:
    engine = FakeEngine(script=plays(lambda head, rng: "a<calc>1+1</calc>"))
    (tree,) = grow(engine, config(width=1, max_segments=2))
    assert responses(tree) == ["a<calc>1+1</calc>\n<result>2</result>\na<calc>1+1</calc>"]
    assert [decode(s.token_ids) for s in tree.segments[1:]] == [
        "a<calc>1+1</calc>",
        "\n<result>2</result>\n",
        "a<calc>1+1</calc>",
    ]
    assert engine.num_open == 0


def test_what_was_drawn_behind_an_action_is_in_no_later_input() -> None:
    engine = FakeEngine(script=plays(random_calculations))
    grow(engine, config(width=8))
    assert not any("JUNK" in decode(request.input_ids) for request, _ in engine.log)


def test_observations_are_not_sampled_and_count_as_response() -> None:
    engine = FakeEngine(script=plays(lambda head, rng: "<calc>2*3</calc>"))
    (tree,) = grow(engine, config(width=1, max_segments=2))
    (row,) = tree.trajectories()
    text = response(tree, row)
    start = text.index("\n<result>6</result>\n")
    expected = [not start <= at < start + 20 for at in range(len(text))]
    assert list(row.loss_mask[2:]) == expected
    assert all(
        (value == 0.0) != drawn for value, drawn in zip(row.logprobs, row.loss_mask, strict=True)
    )


@pytest.mark.parametrize("piece_tokens", [1, 2, 13, 1000])
def test_the_piece_length_changes_nothing(piece_tokens: int) -> None:
    def trees(length: int) -> list[list[tuple[object, ...]]]:
        env = EnvConfig(type="calculator", piece_tokens=length)
        engine = FakeEngine(script=plays(random_calculations))
        return list(map(shape, grow(engine, config(env, width=8), [task("a"), task("b")])))

    assert trees(piece_tokens) == trees(7)


@pytest.mark.parametrize("segment_length", [1, 2, 5, 11])
def test_an_action_may_span_segments(segment_length: int) -> None:
    def policy(head: str, rng: random.Random) -> str:
        return "<calc>40+2</calc>" if not head else "<answer>42</answer>"

    rollout = config(width=1, segment_length=segment_length, max_segments=60)
    (tree,) = grow(FakeEngine(script=plays(policy)), rollout)
    assert responses(tree) == ["<calc>40+2</calc>\n<result>42</result>\n<answer>42</answer>"]
    assert finishes(tree) == {FinishReason.FINISHED: 1}
    assert {len(s.token_ids) for s in tree.segments[1:] if s.sampled[0]} <= set(
        range(1, segment_length + 1)
    )


def test_every_branch_sees_the_results_of_its_own_actions_only() -> None:
    engine = FakeEngine(script=plays(random_calculations))
    trees = grow(engine, config(width=12), [task(f"q{i}") for i in range(6)])
    num_checked = 0
    for text in (text for tree in trees for text in responses(tree)):
        calculator = Calculator()
        calculator.reset({})
        for turn, observation in transcript(text):
            if observation:
                assert calculator.step(turn).text == observation
                num_checked += 1
    assert num_checked > 100
    assert len({text for tree in trees for text in responses(tree)}) > 40


def test_every_request_starts_at_the_prompt_or_behind_an_observation_or_inside_a_turn() -> None:
    engine = FakeEngine(script=plays(random_calculations))
    rollout = config(width=12, branching=1, initial_divergence=2)
    trees = grow(engine, rollout, [task(f"q{i}") for i in range(6)])
    assert sum(tree.num_fallback_paths for tree in trees) > 10
    for request, _ in engine.log:
        text = decode(request.input_ids[request.prompt_length :])
        assert not text.endswith("</calc>")
        assert text.count("<result>") == text.count("</result>\n") == text.count("</calc>")
    starts = {request.input_ids for request, _ in engine.log}
    for tree in trees:
        for segment in tree.segments[1:]:
            if segment.sampled[0]:
                assert segment.parent is not None
                assert tree.prefix_ids(segment.parent) in starts


def test_trees_depend_neither_on_companions_nor_on_order_nor_on_timing() -> None:
    tasks = [task("a"), task("b"), task("c")]
    rollout = config(width=6)
    together = grow(FakeEngine(script=plays(random_calculations)), rollout, tasks)
    shuffled = FakeEngine(
        script=plays(random_calculations), one_token_per_step=True, shuffle_seed=4
    )
    backwards = grow(shuffled, rollout, tasks[::-1])[::-1]
    alone = [grow(FakeEngine(script=plays(random_calculations)), rollout, [t])[0] for t in tasks]
    assert list(map(shape, together)) == list(map(shape, backwards)) == list(map(shape, alone))


def test_steps_that_take_different_times_give_the_same_tree() -> None:
    def policy(head: str, rng: random.Random) -> str:
        if head.count("<out>") == 3:
            return "Do: done\n"
        return f"Do: sleep 0.0{rng.randrange(4)}\n"

    def grown(num_threads: int) -> list[tuple[object, ...]]:
        env = EnvConfig(
            type=TROUBLE.type, piece_tokens=5, step_timeout_s=5.0, num_threads=num_threads
        )
        (tree,) = grow(FakeEngine(script=plays(policy, "</out>")), config(env, width=8))
        return shape(tree)

    assert grown(1) == grown(8)


def test_fallback_goes_on_with_the_state_of_its_boundary() -> None:
    """Every response is one query and an answer: missing leaves start behind the query's result."""

    def policy(head: str, rng: random.Random) -> str:
        return "<answer>1</answer>" if head else f"<calc>{rng.randrange(1000)}</calc>"

    rollout = config(width=6, initial_divergence=1, branching=1)
    (tree,) = grow(FakeEngine(script=plays(policy)), rollout)
    assert tree.num_fallback_paths == 5
    assert all(row.facts["results"] == 1 for row in tree.trajectories())


def test_a_model_that_writes_an_observation_is_stopped_at_the_tag() -> None:
    engine = FakeEngine(script=plays(lambda head, rng: "<calc>1</calc" + "\n<result>7</result>\n"))
    (tree,) = grow(engine, config(width=2))
    assert responses(tree) == ["<calc>1</calc\n<result>"] * 2
    assert finishes(tree) == {FinishReason.FORMAT: 2}
    assert tree.num_fallback_paths == 0


def test_an_observation_behind_an_action_cannot_be_imitated() -> None:
    engine = FakeEngine(script=plays(lambda head, rng: "<calc>1</calc>\n<result>7</result>\n"))
    (tree,) = grow(engine, config(width=1, max_segments=1))
    assert responses(tree) == ["<calc>1</calc>"]


@pytest.mark.parametrize(
    ("order", "finish", "error"),
    [
        ("raise", FinishReason.ENVIRONMENT_FAILED, "KeyError: 'lost'"),
        ("exit", FinishReason.ENVIRONMENT_FAILED, "SystemExit: 3"),
        ("nonsense", FinishReason.ENVIRONMENT_FAILED, "TypeError: step returned str"),
        ("break", FinishReason.FORMAT, None),
        ("done", FinishReason.FINISHED, None),
    ],
)
def test_failures_are_data(order: str, finish: FinishReason, error: str | None) -> None:
    def policy(head: str, rng: random.Random) -> str:
        return f"Do: {order}\n" if head else "Do: hello\n"

    engine = FakeEngine(script=plays(policy, "</out>"))
    (tree,) = grow(engine, config(TROUBLE, width=3, initial_divergence=3))
    assert finishes(tree) == {finish: 3}
    assert responses(tree) == [f"Do: hello\n<out>1:hello</out>Do: {order}\n"] * 3
    for row in tree.trajectories():
        assert str(row.facts.get("error")).startswith(str(error))
    assert engine.num_open == 0


def test_a_hanging_step_ends_its_own_path_only() -> None:
    env = EnvConfig(type=TROUBLE.type, piece_tokens=5, step_timeout_s=0.3, num_threads=2)

    def policy(head: str, rng: random.Random) -> str:
        return "Do: sleep 4\n" if rng.random() < 0.5 else "Do: done\n"

    started = time.monotonic()
    (tree,) = grow(
        FakeEngine(script=plays(policy, "</out>")), config(env, width=8, initial_divergence=8)
    )
    counts = finishes(tree)
    assert set(counts) == {FinishReason.ENVIRONMENT_TIMEOUT, FinishReason.FINISHED}
    # at most 8 hanging steps, 2 at a time, 0.3 s each
    assert time.monotonic() - started < 3.0


def test_a_slow_prompt_does_not_hold_up_the_others() -> None:
    finished_at: dict[int, float] = {}
    started = time.monotonic()

    def progress(done: int, wanted: int) -> None:
        finished_at.setdefault(done, time.monotonic() - started)

    grow_trees(
        FakeEngine(script=plays(lambda head, rng: "Do: done\n", "</out>")),
        [task("slow", reset="sleep"), *(task(f"q{i}") for i in range(9))],
        config(TROUBLE, width=1),
        decode=decode,
        eos_token_ids={EOS},
        seed=1,
        on_progress=progress,
        encode=encode,
    )
    assert finished_at[9] < 0.4
    assert finished_at[10] > 0.5


@pytest.mark.parametrize(
    ("reset", "message"),
    [
        ("raise", "OSError: no such world"),
        ("done", "reset ended the episode"),
        ("long", "no room behind reset"),
    ],
)
def test_a_failed_reset_gives_leaves_of_one_token(reset: str, message: str) -> None:
    engine = FakeEngine(script=plays(lambda head, rng: "Do: done\n", "</out>"))
    (bad, good) = grow(
        engine, config(TROUBLE, max_response_tokens=100), [task("bad", reset=reset), task("good")]
    )
    assert finishes(bad) == {FinishReason.ENVIRONMENT_FAILED: 4}
    assert [len(segment.token_ids) for segment in bad.segments[1:]] == [1] * 4
    assert {row.facts["error"] for row in bad.trajectories()} == {message}
    assert finishes(good) == {FinishReason.FINISHED: 4}


def test_the_first_observation_follows_the_prompt() -> None:
    env = EnvConfig(type="tests.fake_environments:DigitEcho", piece_tokens=4)
    (tree,) = grow(FakeEngine(script=plays(lambda head, rng: "ab9", "]")), config(env, width=2))
    assert responses(tree) == ["[go]ab9"] * 2
    assert [tree.segments[i].sampled[0] for i in tree.path_of(tree.leaves[0])] == [
        False,
        False,
        True,
    ]
    assert tree.trajectories()[0].facts == {"total": 9, "turns": 1}


def test_turns_are_limited() -> None:
    env = EnvConfig(type="calculator", max_turns=3)
    (tree,) = grow(FakeEngine(script=plays(lambda head, rng: "<calc>1</calc>")), config(env))
    assert finishes(tree) == {FinishReason.MAX_TURNS: 4}
    assert {text.count("<calc>") for text in responses(tree)} == {3}
    assert {row.facts["turns"] for row in tree.trajectories()} == {3}


@pytest.mark.parametrize("limit", range(14, 40))
def test_a_response_never_passes_its_limit_and_never_ends_with_an_observation(limit: int) -> None:
    rollout = config(width=1, max_response_tokens=limit)
    (tree,) = grow(FakeEngine(script=plays(lambda head, rng: "<calc>1</calc>")), rollout)
    (text,) = responses(tree)
    action, observation = len("<calc>1</calc>"), len("\n<result>1</result>\n")
    assert text == ("<calc>1</calc>\n<result>1</result>\n" * 2)[: len(text)]
    expected = action if limit <= action + observation else limit
    assert len(text) == expected
    assert finishes(tree) == {FinishReason.MAX_TOKENS: 1}
    assert tree.segments[-1].sampled[0]


def test_an_answer_that_just_fits_counts() -> None:
    limit = len("<answer>1</answer>")
    rollout = config(width=1, max_response_tokens=limit, segment_length=limit, max_segments=1)
    (tree,) = grow(FakeEngine(script=plays(lambda head, rng: "<answer>1</answer>")), rollout)
    assert finishes(tree) == {FinishReason.FINISHED: 1}


def test_long_observations_are_cut_and_marked() -> None:
    env = EnvConfig(type=TROUBLE.type, max_observation_tokens=30)
    policy: Policy = lambda head, rng: "Do: done\n" if head else f"Do: {'long' * 9}\n"  # noqa: E731
    rollout = config(env, width=1, segment_length=60)
    (tree,) = grow(FakeEngine(script=plays(policy, "</out>")), rollout)
    observation = tree.segments[2]
    text = "<out>1:longlong ... (cut)</out>"
    assert decode(observation.token_ids) == text[:5] + "1:longlon ... (cut)</out>"
    assert len(observation.token_ids) == 30


def test_silence_with_a_frame_is_an_empty_frame() -> None:
    policy: Policy = lambda head, rng: "Do: done\n" if head else "Do: silent\n"  # noqa: E731
    (tree,) = grow(FakeEngine(script=plays(policy, "</out>")), config(TROUBLE, width=1))
    assert responses(tree) == ["Do: silent\n<out></out>Do: done\n"]


def test_boxes_in_observations_are_no_answers() -> None:
    def finish_after(order: str) -> Counter[FinishReason]:
        policy: Policy = lambda head, rng: "I stop.$" if head else f"Do: {order}\n"  # noqa: E731
        rollout = config(TROUBLE, width=1, stop=StopConfig(box_mode="eos"))
        (tree,) = grow(FakeEngine(script=plays(policy, "</out>")), rollout)
        return finishes(tree)

    assert finish_after("answer") == {FinishReason.EOS: 1}  # the observation holds the box
    assert finish_after(r"\boxed{1}") == {FinishReason.FINISHED: 1}  # the model's own box


def test_the_first_observation_counts_as_response() -> None:
    env = EnvConfig(type="tests.fake_environments:DigitEcho")
    rollout = config(env, width=1, max_response_tokens=10)
    (tree,) = grow(FakeEngine(script=plays(lambda head, rng: "abcdefgh", "]")), rollout)
    assert responses(tree) == ["[go]abcdef"]
    assert finishes(tree) == {FinishReason.MAX_TOKENS: 1}


def test_facts_survive_json() -> None:
    (tree,) = grow(FakeEngine(script=plays(random_calculations)), config(width=3))
    again = RolloutTree.from_dict(json.loads(json.dumps(tree.to_dict())))
    assert again.facts == tree.facts
    assert set(again.facts) == set(tree.leaves)


def test_observations_are_marked_in_the_text_of_a_tree() -> None:
    policy: Policy = lambda head, rng: "<answer>1</answer>" if head else "<calc>1</calc>"  # noqa: E731
    (tree,) = grow(FakeEngine(script=plays(policy)), config(width=1))
    assert [line.strip() for line in tree_text(tree, decode).splitlines()[2:]] == [
        "+- 1 [14] '<calc>1</calc>'",
        r"+- 2 [20] env '\n<result>1</result>\n'",
        "+- 3 [18] '<answer>1</answer>' finished",
    ]


def test_statistics_tell_turns_observations_and_failures() -> None:
    policy: Policy = lambda head, rng: "Do: raise\n" if head else "Do: x\n"  # noqa: E731
    trees = grow(FakeEngine(script=plays(policy, "</out>")), config(TROUBLE, width=2, branching=1))
    metrics = growth_stats(trees).metrics()
    assert metrics["rollout/turns_mean"] == 1.0
    assert metrics["rollout/observation_tokens"] == 2 * len("<out>1:x</out>")
    assert metrics["rollout/finish_environment_failed_frac"] == 1.0
    assert metrics["rollout/depth_mean"] == 2.0
    assert metrics["rollout/requests"] == 4


def test_environments_need_an_encoder() -> None:
    with pytest.raises(ValueError, match=r"rollout\.env\.type='calculator' needs `encode`"):
        grow_trees(FakeEngine(), [task()], config(), decode=decode, eos_token_ids={EOS}, seed=0)


def test_an_exception_of_the_engine_leaves_no_path_open() -> None:
    engine = FakeEngine(script=plays(random_calculations), fail_at_step=5)
    with pytest.raises(RuntimeError, match="scripted failure"):
        grow(engine, config(width=8))
    assert engine.num_open == 0
