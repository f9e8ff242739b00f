"""The engine against plain forwards: trees, memory pressure, schedules, versions, adapters."""

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from inference.engine import Engine, EngineConfig, KVBudgetError, Path
from inference.philox import uniforms
from inference.requests import DecodedSegment, SamplingParams, StopCause
from tests.tiny_models import VOCABULARY, plain_logprobs, tiny_model

MODEL_TYPES = ["llama", "qwen2", "qwen3", "mistral", "gemma2"]
PLAIN = SamplingParams()
PROMPT = [3, 14, 15, 9, 26, 5]


@pytest.fixture(scope="module")
def models() -> dict[str, torch.nn.Module]:
    return {name: tiny_model(name) for name in MODEL_TYPES}


def assert_segment_matches(
    plain_LV: torch.Tensor, segment: DecodedSegment, start: int, atol: float = 2e-5
) -> None:
    """Compare a segment that begins at position `start` with log-probs [T, V] of a plain forward."""
    law = plain_LV[start - 1 : start - 1 + len(segment.token_ids)]
    tokens = torch.tensor(segment.token_ids)
    expected = law.gather(1, tokens[:, None]).squeeze(1)
    entropy = -(law.exp() * law).sum(-1)
    # float32, other order of summation over two layers with wide weights
    assert torch.allclose(torch.tensor(segment.logprobs), expected, atol=atol)
    assert torch.allclose(torch.tensor(segment.entropies), entropy, atol=atol)


def new_tokens(
    engine: Engine, paths: Sequence[Path], num: int, first_key: int = 0
) -> list[DecodedSegment]:
    keys = range(first_key, first_key + len(paths))
    return engine.decode(paths, max_new_tokens=num, sampling=PLAIN, keys=keys)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("attention", ["gather", "shared_prefix", "auto"])
def test_a_tree_with_forks_at_every_boundary_equals_plain_forwards(
    monkeypatch: pytest.MonkeyPatch,
    models: dict[str, torch.nn.Module],
    model_type: str,
    attention: str,
) -> None:
    monkeypatch.setattr("inference.step_plan._MIN_SAVED_KEYS", 1)
    model = models[model_type]
    engine = Engine(model, EngineConfig(attention=attention))  # type: ignore[arg-type]  # literal
    prompt = (PROMPT * 12)[:70]
    checks: list[tuple[list[int], DecodedSegment, int]] = []
    with engine.session():
        level = [engine.open(prompt)]
        for depth, num in enumerate((3, 2, 2)):
            children = [child for path in level for child in engine.fork(path, num)]
            engine.close(*level)
            starts = [child.length for child in children]
            segments = new_tokens(engine, children, 4, first_key=100 * depth)
            rows = zip(children, segments, starts, strict=True)
            checks += [(child.token_ids, segment, start) for child, segment, start in rows]
            level = children
            engine.check()
        engine.close(*level)
    assert engine.kv_bytes == 0
    assert len(checks) == 3 + 6 + 12
    for token_ids, segment, start in checks:
        assert_segment_matches(plain_logprobs(model, token_ids), segment, start)


@pytest.mark.parametrize("model_type", ["llama", "mistral"])
def test_forks_at_every_earlier_length_equal_plain_forwards(
    models: dict[str, torch.nn.Module], model_type: str
) -> None:
    model = models[model_type]
    engine = Engine(model)
    checks = []
    with engine.session():
        path = engine.open(PROMPT)
        new_tokens(engine, [path], 6)
        tokens = path.token_ids
        for length in range(1, path.length + 1):
            children = engine.fork(path, 2, length)
            assert [child.token_ids for child in children] == [tokens[:length]] * 2
            segments = new_tokens(engine, children, 3, first_key=10 * length)
            checks += [
                (child.token_ids, segment, length)
                for child, segment in zip(children, segments, strict=True)
            ]
            engine.check()
        assert path.token_ids == tokens
    for token_ids, segment, start in checks:
        assert_segment_matches(plain_logprobs(model, token_ids), segment, start)


def test_appended_observations_are_seen_by_later_tokens(models: dict[str, torch.nn.Module]) -> None:
    engine = Engine(models["qwen3"])
    with engine.session():
        path = engine.open(PROMPT)
        new_tokens(engine, [path], 3)
        engine.append(path, [7, 7, 8])
        start = path.length
        (segment,) = new_tokens(engine, [path], 3)
        assert path.token_ids[9:12] == [7, 7, 8]
        token_ids = path.token_ids
    assert_segment_matches(plain_logprobs(models["qwen3"], token_ids), segment, start)


def test_a_token_is_drawn_with_the_uniform_of_its_key_and_absolute_position(
    models: dict[str, torch.nn.Module],
) -> None:
    engine, key = Engine(models["llama"]), 2**63 + 12345
    with engine.session():
        path = engine.open(PROMPT)
        for num in (4, 1, 5):  # where a segment ends does not matter
            engine.decode([path], max_new_tokens=num, sampling=PLAIN, keys=[key])
        token_ids = path.token_ids
    law_TV = plain_logprobs(models["llama"], token_ids).double().exp()
    for position in range(len(PROMPT), len(token_ids)):
        cumulative = law_TV[position - 1].cumsum(0)
        target = uniforms([key], [position])[0] * float(cumulative[-1])
        assert token_ids[position] == int((cumulative <= target).sum())


def test_each_shared_token_is_computed_once_and_each_tree_row_once(
    models: dict[str, torch.nn.Module],
) -> None:
    engine = Engine(models["llama"])
    with engine.session():
        root = engine.open(range(1, 41))
        a, b, c, d = engine.fork(root, 4)
        engine.close(root)
        new_tokens(engine, [a, b, c, d], 5)
        # the fifth token of each branch is drawn and not fed
        assert engine.stats.tokens_computed == 40 + 4 * 4
        assert engine.stats.tokens_sampled == 20 and engine.stats.forwards == 5
        bytes_per_token = engine.stats.peak_kv_bytes // (40 + 4 * 4)
        assert bytes_per_token == 2 * 2 * 2 * 8 * 4  # K and V, layers, kv heads, width, float32
        children = engine.fork(a, 3)
        engine.reset_stats()
        new_tokens(engine, children, 2)
        assert engine.stats.tokens_computed == 1 + 3  # the pending token of a once, then one each
        # an earlier token is fed again once for both children, without new KV
        earlier = engine.fork(b, 2, 40)
        engine.reset_stats()
        before = engine.kv_bytes
        new_tokens(engine, earlier, 1)
        assert engine.stats.tokens_computed == 1
        assert engine.kv_bytes == before
        engine.close(a, b, c, d, *children, *earlier)
    assert engine.kv_bytes == 0


def test_small_tree_stores_the_documented_number_of_tokens(
    models: dict[str, torch.nn.Module],
) -> None:
    engine = Engine(models["llama"])
    with engine.session():
        prompt = engine.open(PROMPT)
        a, b = engine.fork(prompt, 2)
        engine.close(prompt)
        new_tokens(engine, [a, b], 4)
        a1, a2 = engine.fork(a, 2)
        engine.close(a)
        new_tokens(engine, [a1, a2], 4)
        for path in (a1, a2, b):
            engine.append(path, [0])  # so that the last drawn token gets its KV below
        new_tokens(engine, [a1, a2, b], 1)
        per_token = 2 * 2 * 2 * 8 * 4
        extra = 3  # the appended tokens
        assert engine.kv_bytes == (22 + extra) * per_token
        engine.close(b)
        assert engine.kv_bytes == (18 + extra - 1) * per_token
        engine.close(a1)
        assert engine.kv_bytes == (14 + extra - 2) * per_token
        engine.close(a2)
        assert engine.kv_bytes == 0
        with pytest.raises(ValueError, match="closed"):
            engine.close(a2)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 99), st.integers(1, 4)), max_size=14),
    st.sampled_from(["llama", "mistral"]),
    st.sampled_from([None, 60]),
    st.sampled_from([7, 1000]),
)
def test_random_trees_equal_plain_forwards(
    models: dict[str, torch.nn.Module],
    operations: list[tuple[int, int, int]],
    model_type: str,
    max_kv_tokens: int | None,
    max_batch_tokens: int,
) -> None:
    model = models[model_type]
    engine = Engine(
        model,
        EngineConfig(max_kv_tokens=max_kv_tokens, max_batch_tokens=max_batch_tokens, max_running=3),
    )
    checks = []
    with engine.session():
        paths = [engine.open(PROMPT)]
        for step, (kind, pick, size) in enumerate(operations):
            path = paths[pick % len(paths)]
            if kind == 0:
                paths.append(engine.open([1 + pick % 50] * size))
            elif kind == 1:
                paths += engine.fork(path, size, 1 + pick % path.length)
            elif kind == 2:
                engine.append(path, [pick % VOCABULARY])
            elif kind == 3 and len(paths) > 1:
                paths.remove(path)
                engine.close(path)
            else:
                chosen = paths[-size:]
                starts = [one.length for one in chosen]
                segments = new_tokens(engine, chosen, 1 + size % 3, first_key=1000 * step)
                rows = zip(chosen, segments, starts, strict=True)
                checks += [(one.token_ids, segment, start) for one, segment, start in rows]
            engine.check()
        engine.close(*paths)
        engine.check()
        assert engine.kv_bytes == 0
    for token_ids, segment, start in checks:
        assert_segment_matches(plain_logprobs(model, token_ids), segment, start)


def decode_all(
    model: torch.nn.Module, config: EngineConfig, order: Sequence[int]
) -> tuple[dict[int, DecodedSegment], Engine]:
    """Decode 2 prompts x 4 branches of different lengths, submitted in the given order."""
    engine = Engine(model, config)
    lengths = [4, 9, 6, 12, 3, 8, 10, 5]
    done: dict[int, DecodedSegment] = {}
    with engine.session():
        roots = [engine.open(PROMPT), engine.open([8, 1] * 8)]
        paths = [path for root in roots for path in engine.fork(root, 4)]
        engine.close(*roots)
        for index in order:
            sampling = SamplingParams(temperature=0.8 + 0.1 * index, top_p=0.95)
            engine.submit(paths[index], max_new_tokens=lengths[index], sampling=sampling, key=index)
        while engine.has_work:
            for path, segment in engine.step():
                done[paths.index(path)] = segment
            engine.check()
        engine.close(*paths)
    return done, engine


@pytest.mark.parametrize(
    ("config", "order"),
    [
        (EngineConfig(attention="gather"), range(8)),
        (EngineConfig(attention="shared_prefix"), range(8)),
        (EngineConfig(fast_layers=False), range(8)),
        (EngineConfig(), [5, 3, 7, 0, 2, 6, 1, 4]),
        (EngineConfig(max_running=1), range(8)),
        (EngineConfig(max_running=3), [7, 6, 5, 4, 3, 2, 1, 0]),
        (EngineConfig(max_batch_tokens=1), range(8)),
        (EngineConfig(max_batch_tokens=5), range(8)),
        (EngineConfig(max_kv_tokens=40), range(8)),
        (EngineConfig(max_kv_tokens=26), [4, 0, 5, 1, 6, 2, 7, 3]),
    ],
)
def test_results_do_not_depend_on_limits_order_or_companions(
    models: dict[str, torch.nn.Module], config: EngineConfig, order: Sequence[int]
) -> None:
    expected, unlimited = decode_all(models["qwen3"], EngineConfig(), range(8))
    actual, engine = decode_all(models["qwen3"], config, order)
    for index, segment in expected.items():
        other = actual[index]
        assert other.token_ids == segment.token_ids and other.cause == segment.cause
        for name in ("logprobs", "behaviour_logprobs", "entropies"):
            # float32 rounding in another batch
            assert getattr(other, name) == pytest.approx(getattr(segment, name), abs=2e-5)
    if config.max_kv_tokens is not None:
        per_token = 2 * 2 * 2 * 8 * 4
        assert engine.stats.peak_kv_bytes <= config.max_kv_tokens * per_token
        assert unlimited.stats.peak_kv_bytes > config.max_kv_tokens * per_token
        assert engine.stats.tokens_computed > unlimited.stats.tokens_computed


def test_idle_paths_lose_their_kv_under_pressure_and_get_it_back(
    models: dict[str, torch.nn.Module],
) -> None:
    model = models["gemma2"]
    engine = Engine(model, EngineConfig(max_kv_tokens=30))
    with engine.session():
        idle, busy = engine.open(PROMPT * 3), engine.open([9, 8, 7] * 5)
        new_tokens(engine, [idle], 2)
        new_tokens(engine, [busy], 4)
        assert engine.stats.tokens_computed == 19 + 18
        engine.check()
        start = idle.length
        (segment,) = new_tokens(engine, [idle], 3)
        token_ids = idle.token_ids
        assert engine.stats.tokens_computed == 19 + 18 + 20 + 2
    assert_segment_matches(plain_logprobs(model, token_ids), segment, start)


def test_a_path_that_cannot_fit_alone_raises_with_numbers(
    models: dict[str, torch.nn.Module],
) -> None:
    engine = Engine(models["llama"], EngineConfig(max_kv_tokens=10))
    with engine.session():
        path = engine.open(PROMPT)
        engine.submit(path, max_new_tokens=8, sampling=PLAIN, key=0)
        with pytest.raises(KVBudgetError, match="max_kv_tokens to at least 11"):
            while engine.has_work:
                engine.step()
        engine.check()
        segment = engine.cancel(path)
        assert segment is not None and len(segment.token_ids) == 5  # 6 + 4 tokens fit, one is drawn
        engine.close(path)
        with pytest.raises(KVBudgetError, match="at least 11"):
            new_tokens(engine, [engine.open(list(range(11)))], 1)


def test_stop_tokens_length_and_cancel_end_requests(models: dict[str, torch.nn.Module]) -> None:
    engine = Engine(models["llama"])
    with engine.session():
        first, second, third = engine.fork(engine.open(PROMPT), 3)
        (free,) = new_tokens(engine, [first], 6, first_key=5)
        assert free.cause is StopCause.LENGTH and len(free.token_ids) == 6
        stop = free.token_ids[3]
        engine.submit(second, max_new_tokens=6, sampling=PLAIN, stop_token_ids=(stop,), key=5)
        ended = []
        while engine.has_work:
            ended += engine.step()
        ((path, stopped),) = ended
        cut = free.token_ids.index(stop) + 1
        assert path is second and stopped.cause is StopCause.STOP_TOKEN
        assert stopped.token_ids == free.token_ids[:cut]
        assert second.token_ids == PROMPT + list(stopped.token_ids)
        engine.submit(third, max_new_tokens=6, sampling=PLAIN, key=5)
        engine.step()
        engine.step()
        cancelled = engine.cancel(third)
        assert cancelled is not None and cancelled.cause is StopCause.CANCELLED
        assert cancelled.token_ids == free.token_ids[:2] and not engine.has_work
        engine.submit(third, max_new_tokens=1, sampling=PLAIN, key=5)
        assert engine.cancel(third) is None


def test_a_running_path_can_be_forked_at_an_earlier_length(
    models: dict[str, torch.nn.Module],
) -> None:
    engine = Engine(models["llama"])
    with engine.session():
        path = engine.open(PROMPT)
        engine.submit(path, max_new_tokens=6, sampling=PLAIN, key=1)
        for _ in range(3):
            engine.step()
        (early,), (late,) = engine.fork(path, 1, 7), engine.fork(path, 1)
        for other, key in ((early, 2), (late, 3)):
            engine.submit(other, max_new_tokens=3, sampling=PLAIN, key=key)
        done = {}
        while engine.has_work:
            done.update({id(one): segment for one, segment in engine.step()})
            engine.check()
        tokens = [(one.token_ids, done[id(one)]) for one in (path, early, late)]
    for (token_ids, segment), start in zip(tokens, (6, 7, 9), strict=True):
        assert_segment_matches(plain_logprobs(models["llama"], token_ids), segment, start)


def test_a_new_policy_version_drops_the_cache() -> None:
    model = tiny_model("llama", seed=3)
    engine = Engine(model)
    greedy = SamplingParams(temperature=0.0)

    def greedy_tokens(engine: Engine) -> tuple[int, ...]:
        with engine.session():
            path = engine.open(PROMPT)
            (segment,) = engine.decode([path], max_new_tokens=12, sampling=greedy, keys=[0])
            assert segment.policy_version == engine.policy_version
            engine.close(path)
        return segment.token_ids

    before = greedy_tokens(engine)
    with torch.no_grad():
        model.model.layers[0].self_attn.k_proj.weight.mul_(-2.0)
    engine.set_policy_version(1)
    after = greedy_tokens(engine)
    assert after == greedy_tokens(Engine(model)) and after != before


def test_the_version_cannot_change_under_open_paths(models: dict[str, torch.nn.Module]) -> None:
    engine = Engine(models["llama"])
    path = engine.open(PROMPT)
    engine.set_policy_version(0)
    with pytest.raises(ValueError, match="1 open paths"):
        engine.set_policy_version(1)
    engine.close(path)
    engine.set_policy_version(1)
    assert engine.policy_version == 1


def test_adapters_work_without_their_dropout_and_can_be_switched_off() -> None:
    base = tiny_model("qwen2")
    reference = copy.deepcopy(base)
    settings = LoraConfig(r=4, lora_dropout=0.5, target_modules=["q_proj", "v_proj"])
    model = get_peft_model(base, settings)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    model.train()
    engine = Engine(model)

    def decoded() -> tuple[list[int], DecodedSegment]:
        with engine.session():
            path = engine.open(PROMPT)
            (segment,) = new_tokens(engine, [path], 8)
            token_ids = path.token_ids
            engine.close(path)
        return token_ids, segment

    with_adapter = decoded()
    assert decoded() == with_adapter
    assert model.training
    with model.disable_adapter():
        without = decoded()
    assert without[1].token_ids != with_adapter[1].token_ids
    assert_segment_matches(plain_logprobs(reference, without[0]), without[1], len(PROMPT))
    model.eval()
    assert_segment_matches(plain_logprobs(model, with_adapter[0]), with_adapter[1], len(PROMPT))


def test_bfloat16_models_report_float32_statistics() -> None:
    model = tiny_model("llama", initializer_range=0.02).bfloat16()
    engine = Engine(model)
    with engine.session():
        path = engine.open(PROMPT)
        (segment,) = new_tokens(engine, [path], 6)
        token_ids = path.token_ids
    # rounding of bfloat16 logits (8 bits) of size below 1; measured for such models: 2e-2
    assert_segment_matches(plain_logprobs(model, token_ids), segment, len(PROMPT), atol=5e-2)


def test_a_session_under_autocast_equals_a_plain_forward_under_autocast() -> None:
    model = tiny_model("llama", initializer_range=0.02)
    engine = Engine(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with engine.session():
            paths = engine.fork(engine.open(PROMPT), 2)
            segments = new_tokens(engine, paths, 5)
            token_ids = [path.token_ids for path in paths]
        for ids, segment in zip(token_ids, segments, strict=True):
            assert_segment_matches(plain_logprobs(model, ids), segment, len(PROMPT), atol=5e-2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e, p: e.open([]), "at least one token"),
        (lambda e, p: e.open([VOCABULARY]), "leave the vocabulary"),
        (lambda e, p: e.append(p, [-1]), "leave the vocabulary"),
        (lambda e, p: e.fork(p, 0), "num=0"),
        (lambda e, p: e.fork(p, 1, 0), "length=0"),
        (lambda e, p: e.fork(p, 1, 7), "length=7"),
        (lambda e, p: e.submit(p, max_new_tokens=0, sampling=PLAIN, key=0), "max_new_tokens=0"),
        (lambda e, p: e.submit(p, max_new_tokens=1, sampling=PLAIN, key=-1), "64-bit"),
        (lambda e, p: e.submit(p, max_new_tokens=999, sampling=PLAIN, key=1), "max_position"),
        (lambda e, p: e.cancel(p), "no request"),
        (lambda e, p: Engine(tiny_model()).fork(p, 1), "another engine"),
    ],
)
def test_wrong_calls_are_refused(
    models: dict[str, torch.nn.Module], call: Callable[[Engine, Path], object], message: str
) -> None:
    engine = Engine(models["llama"])
    path = engine.open(PROMPT)
    with pytest.raises(ValueError, match=message):
        call(engine, path)


def test_a_path_with_a_request_is_not_closed_appended_or_submitted_again(
    models: dict[str, torch.nn.Module],
) -> None:
    engine = Engine(models["llama"])
    path = engine.open(PROMPT)
    engine.submit(path, max_new_tokens=1, sampling=PLAIN, key=0)
    for call in (
        lambda: engine.close(path),
        lambda: engine.append(path, [1]),
        lambda: engine.submit(path, max_new_tokens=1, sampling=PLAIN, key=0),
        lambda: engine.decode([path], max_new_tokens=1, sampling=PLAIN, keys=[0]),
    ):
        with pytest.raises(ValueError, match="request"):
            call()


@pytest.mark.parametrize(
    "options",
    [{"max_kv_tokens": 0}, {"max_batch_tokens": 0}, {"max_running": 0}, {"attention": "x"}],
)
def test_impossible_limits_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        EngineConfig(**options)  # type: ignore[arg-type]  # wrong on purpose
