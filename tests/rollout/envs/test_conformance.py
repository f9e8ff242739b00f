"""Every environment of the package keeps the contract: one table row per environment."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from rollout.config import PromptTask, RolloutConfig
from rollout.envs.base import Environment, Observation
from rollout.envs.config import EnvConfig
from rollout.envs.load import EnvironmentSource, environment_names, load_environment
from rollout.envs.replay import ReplayEnvironment
from rollout.envs.step_pool import StepPool
from rollout.envs.turn_text import neutralised
from rollout.growth import grow_trees
from rollout.tree import FinishReason, RolloutTree
from tests.fakes import FakeEngine, FakeRequest, Script


@dataclass(frozen=True, kw_only=True)
class Case:
    """How to make an environment and what a model may write in it."""

    actions: tuple[str, ...]
    """Turns that do not end the episode."""
    final: str
    """A turn that ends it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    example: Mapping[str, Any] = field(default_factory=dict)


CASES = {
    "calculator": Case(
        actions=("<calc>1+1</calc>", "<calc>ans*3</calc>", "<calc>1/0</calc>", "<calc>x</calc>"),
        final="<answer>6</answer>",
    ),
    "sql_agent": Case(
        options={"executor": "tests.fake_environments:open_shops"},
        actions=(
            "<intermediate_sql>SELECT * FROM shop</intermediate_sql>",
            "<think>hm</think><intermediate_sql>SELECT size FROM shop</intermediate_sql>",
            "<intermediate_sql>SELECT nothing FROM nowhere</intermediate_sql>",
        ),
        final="<final_sql>SELECT 1</final_sql>",
    ),
    "webshop": Case(
        options={"simulator": "tests.fake_environments:FakeShop"},
        actions=(
            "<think>a shoe</think><action>search[red shoe]</action>",
            "<action>click[B01]</action>",
            "<action>dance</action>",
        ),
        final="<action>click[buy now]</action>",
    ),
}
ODD = [
    "",
    " ",
    "\n",
    "\x00",
    "</calc>",
    "</final_sql>",
    "</intermediate_sql>",
    "</action>",
    "<action></action>",
    "<calc></calc>",
    "<final_sql></final_sql>",
    "<intermediate_sql></intermediate_sql>",
    "<calc>" * 50 + "1" * 5000 + "</calc>",
    "<calc>" + "(" * 199 + "</calc>",
    "<calc>9**9**9</calc>",
    "<intermediate_sql>SELECT '\U0001f6d2 \u00e4\u0301 \u202e'</intermediate_sql>",
    "<action>search[\U0001f6d2 \u00e4\u0301 \u202e]</action>",
    "<action>search[a] click[b]</action>",
    "<intermediate_sql>" + "x" * 100_000 + "</intermediate_sql>",
    "<think>" * 20_000 + "</action>",
]


def source(name: str) -> EnvironmentSource:
    return load_environment(name, CASES[name].options)


def started(name: str) -> Environment:
    environment = source(name).make()
    environment.reset(CASES[name].example)
    return environment


def turns_of(name: str, seed: int, num: int = 8) -> list[str]:
    return random.Random(seed).choices(CASES[name].actions, k=num)


def test_every_environment_has_a_row_in_the_table() -> None:
    assert sorted(CASES) == environment_names()


@pytest.fixture(params=sorted(CASES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_it_has_snapshots_of_its_own(name: str) -> None:
    assert not isinstance(source(name).make(), ReplayEnvironment)


def test_branches_do_not_see_each_others_actions(name: str) -> None:
    """Eight branches on one instance, interleaved, against eight instances of their own."""
    shared = started(name)
    states = [shared.snapshot()] * 8
    alone = [started(name) for _ in states]
    scripts = [turns_of(name, seed) for seed in range(8)]
    for turn in range(8):
        for branch in random.Random(turn).sample(range(8), 8):
            shared.restore(states[branch])
            observation = shared.step(scripts[branch][turn])
            states[branch] = shared.snapshot()
            assert observation == alone[branch].step(scripts[branch][turn])


def test_a_snapshot_is_a_value(name: str) -> None:
    environment = started(name)
    environment.step(CASES[name].actions[0])
    state = environment.snapshot()
    expected = [environment.step(action) for action in turns_of(name, 1)]
    for _ in range(2):
        environment.restore(state)
        assert [environment.step(action) for action in turns_of(name, 1)] == expected


def test_a_snapshot_continues_on_another_instance(name: str) -> None:
    one, other = started(name), source(name).make()
    one.step(CASES[name].actions[0])
    other.restore(one.snapshot())
    for action in (*turns_of(name, 2), CASES[name].final):
        assert one.step(action) == other.step(action)


def test_replay_from_the_start_gives_the_same(name: str) -> None:
    """The same environment without its snapshots, wrapped."""
    replayed = ReplayEnvironment(source(name).make)
    replayed.reset(CASES[name].example)
    own = started(name)
    start, own_start = replayed.snapshot(), own.snapshot()
    for seed in range(3):
        replayed.restore(start)
        own.restore(own_start)
        for action in turns_of(name, seed):
            assert replayed.step(action) == own.step(action)
            middle, own_middle = replayed.snapshot(), own.snapshot()
        replayed.restore(start)
        replayed.restore(middle)
        own.restore(own_middle)
        assert replayed.step(CASES[name].final) == own.step(CASES[name].final)


def test_a_reset_forgets_everything(name: str) -> None:
    environment = started(name)
    fresh = environment.snapshot()
    first = [environment.step(action) for action in turns_of(name, 3)]
    environment.reset(CASES[name].example)
    assert [environment.step(action) for action in turns_of(name, 3)] == first
    environment.restore(fresh)
    assert [environment.step(action) for action in turns_of(name, 3)] == first


@pytest.mark.parametrize("number", range(len(ODD)))
def test_whatever_a_model_writes_it_answers(name: str, number: int) -> None:
    environment = started(name)
    observation = environment.step(ODD[number])
    assert isinstance(observation, Observation)
    json.dumps(observation.detail, allow_nan=False)
    observation.text.encode("utf-8")


def test_a_final_turn_ends_the_episode(name: str) -> None:
    environment = started(name)
    assert not environment.step(CASES[name].actions[0]).done
    assert environment.step(CASES[name].final).done


def test_every_action_ends_where_the_format_says(name: str) -> None:
    turns = source(name).turns
    for action in (*CASES[name].actions, CASES[name].final):
        assert turns.action_end.find(action) == len(action)
        assert turns.action_end.find(action[:-1]) is None
        assert turns.action_end.find(action + action) == len(action)


def test_the_frame_is_what_the_model_may_not_write(name: str) -> None:
    turns = source(name).turns
    assert turns.observation_open.strip() in turns.forbidden
    assert turns.observation_close.strip() in turns.forbidden


def plays(name: str) -> Script:
    """Random turns of the table, by the key of the request; nonsense behind every action."""
    case, turns = CASES[name], source(name).turns

    def script(request: FakeRequest) -> list[int]:
        text = characters(request.input_ids[request.prompt_length :])
        written = text.rpartition(turns.observation_close)[2]
        rng = random.Random(request.key)
        num_steps = text.count(turns.observation_close)
        turn = case.final if rng.random() < 0.1 * num_steps else rng.choice(case.actions)
        return [ord(char) for char in turn[len(written) :] + "JUNK" * 200]

    return script


def characters(token_ids: Sequence[int]) -> str:
    return "".join(map(chr, token_ids))


def ordinals(text: str) -> list[int]:
    return [ord(char) for char in text]


def grown(name: str, **limits: int) -> list[RolloutTree]:
    """Trees of three prompts, one token per character, no EOS."""
    env = EnvConfig(type=name, options=CASES[name].options, num_threads=4, **limits)
    rollout = RolloutConfig(width=8, segment_length=200, max_segments=12, env=env)
    tasks = [
        PromptTask(prompt_id=f"p{i}", token_ids=ordinals("?"), example=CASES[name].example)
        for i in range(3)
    ]
    engine = FakeEngine(script=plays(name), shuffle_seed=1)
    trees = grow_trees(
        engine,
        tasks,
        rollout,
        decode=characters,
        eos_token_ids={0},
        seed=3,
        encode=ordinals,
    )
    assert engine.num_open == 0
    return trees


def pieces(tree: RolloutTree, leaf: int) -> list[tuple[bool, str]]:
    """(sampled, text) of the segments of a response."""
    path = [tree.segments[i] for i in tree.path_of(leaf)[1:]]
    return [(segment.sampled[0], characters(segment.token_ids)) for segment in path]


def test_grown_responses_are_what_the_environment_alone_says(name: str) -> None:
    turns = source(name).turns
    leaves = [(tree, leaf) for tree in grown(name) for leaf in tree.leaves]
    for tree, leaf in leaves:
        environment = source(name).make()
        answer = environment.reset(CASES[name].example)
        for is_sampled, text in pieces(tree, leaf):
            if is_sampled:
                answer = environment.step(text)
            else:
                assert answer is not None
                shown = neutralised(answer.text, turns)
                assert text == f"{turns.observation_open}{shown}{turns.observation_close}"
        assert answer is not None
        facts = dict(tree.facts[leaf])
        assert facts.pop("turns") == sum(sampled for sampled, _ in pieces(tree, leaf))
        assert facts == answer.detail
    assert FinishReason.FINISHED in {tree.segments[leaf].finish for tree, leaf in leaves}


def test_grown_responses_keep_the_limits(name: str) -> None:
    for tree in grown(name, max_turns=2, max_observation_tokens=50):
        for leaf in tree.leaves:
            parts = pieces(tree, leaf)
            assert sum(sampled for sampled, _ in parts) <= 2
            assert all(len(text) <= 50 for sampled, text in parts if not sampled)


def test_a_step_that_takes_too_long_is_a_timeout(name: str) -> None:
    steps = StepPool(source(name).make, num_threads=1, timeout_s=0.2)
    state = started(name).snapshot()

    def job(environment: Environment, delay_s: float) -> tuple[Observation, object]:
        environment.restore(state)
        time.sleep(delay_s)
        return environment.step(CASES[name].final), environment.snapshot()

    for delay_s in (1.0, 0.0):
        steps.submit(partial(job, delay_s=delay_s), lambda outcome: None)
    outcomes = []
    while steps.has_work:
        outcomes += [outcome for _, outcome in steps.take_finished(wait=True)]
    steps.close()
    assert outcomes[0].failure is FinishReason.ENVIRONMENT_TIMEOUT
    assert outcomes[1].observation is not None
    assert outcomes[1].observation.done
