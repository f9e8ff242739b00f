"""Growth with the real engine over a tiny random Llama: the trees hold what a plain forward says."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from inference.engine import Engine, EngineConfig, KVBudgetError
from rollout.growth import PromptTask, RolloutConfig, grow_trees
from rollout.stats import growth_stats
from rollout.tree import FinishReason, RolloutTree

VOCABULARY = 40
EOS = {0, 1, 2, 3}
TASKS = [
    PromptTask(prompt_id="a", token_ids=[5, 6, 7, 8, 9], example={}),
    PromptTask(prompt_id="b", token_ids=[11], example={}),
    PromptTask(prompt_id="c", token_ids=[12, 5, 30], example={}),
]
CONFIG = RolloutConfig(width=8, max_segments=5, segment_length=4, temperature=0.8)


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


def grow(
    engine: Engine, config: RolloutConfig = CONFIG, tasks: list[PromptTask] | None = None
) -> list[RolloutTree]:
    with engine.session():
        return grow_trees(
            engine, tasks or TASKS, config, decode=lambda ids: "", eos_token_ids=EOS, seed=3
        )


def plain_logprobs(
    model: LlamaForCausalLM, token_ids: tuple[int, ...], temperature: float
) -> torch.Tensor:
    """Log-probs of tokens 1.. under a plain forward; shape [T - 1], nats."""
    with torch.no_grad():
        logits = model(torch.tensor([token_ids])).logits[0, :-1].float() / temperature
    return logits.log_softmax(-1)[torch.arange(len(token_ids) - 1), list(token_ids[1:])]


def test_recorded_logprobs_equal_a_plain_forward(model: LlamaForCausalLM) -> None:
    trees = grow(Engine(model))
    assert sum(tree.num_fallback_paths for tree in trees) > 0
    assert {tree.segments[leaf].finish for tree in trees for leaf in tree.leaves} == {
        FinishReason.EOS,
        FinishReason.MAX_TOKENS,
    }
    for row in (row for tree in trees for row in tree.trajectories()):
        recorded = torch.tensor(row.logprobs[1:])
        sampled = torch.tensor(row.loss_mask[1:])
        expected = plain_logprobs(model, row.token_ids, CONFIG.temperature)
        torch.testing.assert_close(recorded[sampled], expected[sampled], atol=1e-4, rtol=0)


def test_nothing_is_left_in_the_engine(model: LlamaForCausalLM) -> None:
    engine = Engine(model)
    grow(engine)
    assert (engine.num_open_paths, engine.kv_bytes) == (0, 0)


def test_nothing_is_left_in_the_engine_after_an_exception(model: LlamaForCausalLM) -> None:
    engine = Engine(model)
    too_long = RolloutConfig(width=8, max_segments=30, segment_length=4)
    never_ends = {VOCABULARY + 1}
    with engine.session():
        with pytest.raises(ValueError, match="max_position_embeddings=64"):
            grow_trees(
                engine, TASKS, too_long, decode=lambda ids: "", eos_token_ids=never_ends, seed=3
            )
        assert (engine.num_open_paths, engine.kv_bytes) == (0, 0)


def test_nothing_is_left_in_the_engine_when_the_kv_budget_is_too_small(
    model: LlamaForCausalLM,
) -> None:
    engine = Engine(model, EngineConfig(max_kv_tokens=12))
    with engine.session():
        with pytest.raises(KVBudgetError):
            grow_trees(
                engine, TASKS, CONFIG, decode=lambda ids: "", eos_token_ids={VOCABULARY}, seed=3
            )
        assert (engine.num_open_paths, engine.kv_bytes) == (0, 0)


def test_a_tight_kv_budget_gives_the_same_trees(model: LlamaForCausalLM) -> None:
    tight = grow(Engine(model, EngineConfig(max_kv_tokens=60, max_running=5)))
    for tree, other in zip(tight, grow(Engine(model)), strict=True):
        assert [s.token_ids for s in tree.segments] == [s.token_ids for s in other.segments]


@pytest.mark.parametrize("initial_divergence", [2, 8])
def test_every_token_of_a_full_tree_is_computed_once(
    model: LlamaForCausalLM, initial_divergence: int
) -> None:
    engine = Engine(model)
    config = RolloutConfig(
        width=8, max_segments=5, segment_length=4, initial_divergence=initial_divergence
    )
    with engine.session():
        engine.reset_stats()
        trees = grow_trees(
            engine, TASKS, config, decode=lambda ids: "", eos_token_ids={VOCABULARY}, seed=3
        )
    stats = growth_stats(trees)
    assert stats.fallback_paths == 0
    # the last token of a response is drawn but never fed
    assert engine.stats.tokens_computed == stats.distinct_tokens - stats.num_leaves
    assert engine.stats.tokens_sampled == stats.sampled_tokens


def test_fallback_feeds_at_most_one_token_again_per_path(model: LlamaForCausalLM) -> None:
    engine = Engine(model)
    grow(engine)  # the first session also probes the model
    engine.reset_stats()
    stats = growth_stats(grow(engine))
    once = stats.distinct_tokens - stats.num_leaves
    assert stats.fallback_paths > 0
    assert once <= engine.stats.tokens_computed <= once + stats.fallback_paths
    assert engine.stats.tokens_sampled == stats.sampled_tokens


def test_trees_do_not_depend_on_companions_or_order(model: LlamaForCausalLM) -> None:
    engine = Engine(model)
    together = grow(engine)
    backwards = grow(engine, tasks=TASKS[::-1])[::-1]
    alone = [grow(engine, tasks=[each])[0] for each in TASKS]

    def shape(tree: RolloutTree) -> list[tuple[object, ...]]:
        return [(s.parent, s.token_ids, s.finish) for s in tree.segments]

    assert list(map(shape, together)) == list(map(shape, backwards)) == list(map(shape, alone))
