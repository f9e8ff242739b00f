"""What the engine does to a module, and which models it refuses."""

import copy

import pytest
import torch
from transformers import AutoConfig, GPTJConfig, GPTJForCausalLM, PreTrainedModel

from inference.engine import Engine, EngineConfig, UnsupportedModelError
from inference.probe import probe
from inference.requests import SamplingParams
from inference.runner import ModelRunner, check_supported, rollout_mode
from tests.tiny_models import VOCABULARY, plain_logprobs, tiny_model


def module_state(model: PreTrainedModel) -> object:
    """Everything that a session may touch."""
    return (
        [module.training for module in model.modules()],
        [getattr(module, "gradient_checkpointing", None) for module in model.modules()],
        model.config._attn_implementation,
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
    )


def training_model() -> PreTrainedModel:
    model = tiny_model("llama", attention_dropout=0.5)
    model.train()
    model.gradient_checkpointing_enable()
    model.model.layers[1].eval()  # a frozen part that stays in evaluation mode
    return model


def test_a_session_restores_the_module_exactly() -> None:
    model = training_model()
    before, weights = module_state(model), copy.deepcopy(model.state_dict())
    engine = Engine(model)
    with engine.session():
        assert not any(module.training for module in model.modules())
        path = engine.open([3, 4])
        engine.decode([path], max_new_tokens=3, sampling=SamplingParams(), keys=[1])
        engine.close(path)
    assert module_state(model) == before
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_a_session_restores_the_module_after_an_exception_in_a_layer() -> None:
    model = training_model()
    before = module_state(model)
    engine = Engine(model)
    with engine.session():
        pass

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    handle = model.model.layers[1].register_forward_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt), engine.session():
        path = engine.open([3, 4])
        engine.submit(path, max_new_tokens=2, sampling=SamplingParams(), key=0)
        engine.step()
    handle.remove()
    assert module_state(model) == before
    assert engine.kv_bytes == 0 and engine.num_open_paths == 0 and not engine.has_work
    engine.check()


def test_a_failed_step_can_be_repeated_in_the_same_session() -> None:
    model = tiny_model()
    engine, fresh = Engine(model), Engine(model)
    with engine.session():
        path = engine.open([3, 4, 5])
        engine.submit(path, max_new_tokens=4, sampling=SamplingParams(), key=9)
        engine.step()
        handle = model.model.layers[1].register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.step()
        handle.remove()
        engine.check()
        while engine.has_work:
            ended = engine.step()
    with fresh.session():
        other = fresh.open([3, 4, 5])
        (expected,) = fresh.decode([other], max_new_tokens=4, sampling=SamplingParams(), keys=[9])
    assert ended[0][1].token_ids == expected.token_ids


def test_calling_the_model_inside_a_session_is_an_error_not_a_wrong_answer() -> None:
    model = tiny_model()
    with pytest.raises(RuntimeError, match="session"), Engine(model).session():
        plain_logprobs(model, [1, 2])


def test_nested_sessions_and_steps_outside_are_refused() -> None:
    engine = Engine(tiny_model())
    with engine.session(), pytest.raises(RuntimeError, match="nest"), engine.session():
        pass
    with pytest.raises(RuntimeError, match="outside"):
        engine.step()


def tiny_gptj() -> GPTJForCausalLM:
    config = GPTJConfig(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, rotary_dim=4)
    return GPTJForCausalLM(config).eval()


def test_gptj_is_refused_before_anything_runs() -> None:
    with pytest.raises(UnsupportedModelError, match=r"'gptj'.*AttentionInterface"):
        Engine(tiny_gptj())


def test_the_probe_alone_also_catches_a_model_that_ignores_the_hook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("inference.runner.check_supported", lambda config: None)
    engine = Engine(tiny_gptj())
    with pytest.raises(UnsupportedModelError, match="gptj"), engine.session():
        pass


def test_the_probe_catches_wrong_attention_and_restores_the_module(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model("mistral")
    monkeypatch.setattr("inference.step_plan.KeyBlock.mask", lambda self, window: None)
    before = module_state(model)
    with pytest.raises(UnsupportedModelError, match=r"differ by"):
        probe(ModelRunner(model), "gather")
    assert module_state(model) == before


@pytest.mark.parametrize("model_type", ["bloom", "falcon", "mpt", "mamba", "jamba", "qwen3_next"])
def test_known_unsupported_types_are_refused_from_the_configuration(model_type: str) -> None:
    with pytest.raises(UnsupportedModelError, match=model_type):
        check_supported(AutoConfig.for_model(model_type))


def test_layer_types_of_unknown_kind_are_refused() -> None:
    config = AutoConfig.for_model("qwen3", num_hidden_layers=1)
    config.layer_types = ["chunked_attention"]
    with pytest.raises(UnsupportedModelError, match="chunked_attention"):
        check_supported(config)


def test_something_that_is_no_transformers_model_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="no transformers model"):
        Engine(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    "model_type",
    [
        "llama",
        "qwen2",
        "qwen3",
        "mistral",
        "gemma2",
        "gpt2",
        "gpt_neox",
        "phi3",
        "olmo2",
        "gpt_oss",
    ],
)
@pytest.mark.parametrize("attention", ["gather", "shared_prefix"])
def test_the_probe_accepts_the_types_that_the_message_names(
    model_type: str, attention: str
) -> None:
    config = EngineConfig(attention=attention)  # type: ignore[arg-type]  # parametrised literal
    with Engine(tiny_model(model_type), config).session():
        pass


def test_rollout_mode_switches_gradients_off_and_on() -> None:
    model = tiny_model()
    with rollout_mode(model):
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
