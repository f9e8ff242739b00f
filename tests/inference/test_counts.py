"""What rollouts cost, counted: tokens computed, forwards, KV bytes; and a soak that leaves nothing."""

import random
import tracemalloc

import pytest

from inference.engine import Engine
from inference.requests import SamplingParams
from rollout.config import PromptTask, RolloutConfig
from rollout.growth import grow_trees
from tests.tiny_models import VOCABULARY, tiny_model

BYTES_PER_TOKEN = 2 * 2 * 2 * 8 * 4  # K and V, layers, kv heads, width, float32
PROMPT = [1 + i % (VOCABULARY - 1) for i in range(50)]


def grow(engine: Engine, config: RolloutConfig) -> None:
    task = PromptTask(prompt_id="p", token_ids=PROMPT, example={})
    with engine.session():
        grow_trees(engine, [task], config, decode=lambda ids: "", eos_token_ids=(), seed=0)


@pytest.mark.parametrize(
    ("divergence", "widths"), [(2, (2, 4, 8, 8)), (8, (8, 8, 8, 8)), (1, (1, 2, 4, 8))]
)
def test_a_tree_costs_its_distinct_tokens_and_one_forward_per_token_of_a_response(
    divergence: int, widths: tuple[int, ...]
) -> None:
    engine = Engine(tiny_model("llama"))
    grow(
        engine,
        RolloutConfig(
            width=8, max_segments=4, segment_length=6, branching=2, initial_divergence=divergence
        ),
    )
    distinct = len(PROMPT) + 6 * sum(widths)
    assert engine.stats.tokens_sampled == 6 * sum(widths)
    assert engine.stats.forwards == 4 * 6  # six per segment level, no extra one at a fork
    assert engine.stats.tokens_computed == distinct - 8  # the last token of a leaf is not fed
    assert engine.stats.peak_kv_bytes <= distinct * BYTES_PER_TOKEN
    assert engine.stats.peak_kv_bytes >= 0.95 * (distinct - 8) * BYTES_PER_TOKEN
    assert engine.kv_bytes == 0


def test_independent_responses_share_the_prompt() -> None:
    engine = Engine(tiny_model("llama"))
    grow(engine, RolloutConfig(width=8, max_segments=1, segment_length=24, branching=1))
    assert engine.stats.tokens_computed == len(PROMPT) + 8 * 23
    assert engine.stats.peak_kv_bytes == (len(PROMPT) + 8 * 23) * BYTES_PER_TOKEN
    assert engine.stats.forwards == 24


def test_all_new_prompts_are_computed_in_one_forward() -> None:
    engine = Engine(tiny_model("llama"))
    with engine.session():
        paths = [engine.open(PROMPT[: 10 + i]) for i in range(5)]
        engine.decode(paths, max_new_tokens=1, sampling=SamplingParams(), keys=range(5))
        assert engine.stats.forwards == 1
        assert engine.stats.tokens_computed == 10 + 11 + 12 + 13 + 14
        engine.close(*paths)


@pytest.mark.slow
def test_twenty_thousand_segments_leave_no_bytes_and_no_growth() -> None:
    engine = Engine(tiny_model("llama"))
    rng, created, traced, num_segments = random.Random(0), [], [], 0
    tracemalloc.start()
    with engine.session():
        while num_segments < 20_000:
            paths = engine.fork(engine.open(PROMPT[: rng.randint(2, 40)]), 16)
            for _ in range(8):
                new = rng.randint(1, 4)
                keys = [rng.getrandbits(64) for _ in paths]
                engine.decode(paths, max_new_tokens=new, sampling=SamplingParams(), keys=keys)
                num_segments += len(paths)
                closing = rng.sample(paths, 8)
                paths = [path for path in paths if path not in closing]
                parents = [rng.choice(paths) for _ in closing]
                paths += [engine.fork(p, 1, rng.randint(2, p.length))[0] for p in parents]
                engine.close(*closing)
            engine.reset()
            engine.check()
            assert engine.kv_bytes == 0 and engine.num_open_paths == 0
            created.append(engine.kv_reserved_bytes)
            traced.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert engine.kv_bytes == engine.kv_reserved_bytes == 0
    half = len(created) // 2
    assert max(created[half:]) <= max(created[:half])
    assert max(traced[half:]) <= 1.05 * max(traced[:half]) + 100_000  # bytes of Python objects
