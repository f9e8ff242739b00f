"""Packed weights give the results of the layers that they stand for, and leave no trace."""

import copy

import pytest
import torch
from torch.nn import functional

from inference.engine import Engine, EngineConfig
from inference.packed_weights import PackedWeights
from inference.requests import SamplingParams
from tests.tiny_models import plain_logprobs, tiny_model


class Attention(torch.nn.Module):
    def __init__(self, has_bias: bool) -> None:
        super().__init__()
        self.q_proj = torch.nn.Linear(48, 64, bias=has_bias)
        self.k_proj = torch.nn.Linear(48, 16, bias=has_bias)
        self.v_proj = torch.nn.Linear(48, 32, bias=has_bias)
        self.o_proj = torch.nn.Linear(64, 48, bias=has_bias)


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_rows", [1, 5, 70])
def test_projections_equal_plain_products(
    has_bias: bool, dtype: torch.dtype, num_rows: int
) -> None:
    torch.manual_seed(0)
    model = Attention(has_bias).to(dtype)
    inputs = torch.randn(1, num_rows, 48).to(dtype)
    packed = PackedWeights()
    with torch.no_grad(), packed.installed(model):
        for _ in range(2):  # the second time from the kept copy
            for layer in (model.q_proj, model.k_proj, model.v_proj):
                expected = functional.linear(inputs, layer.weight, layer.bias)
                # float32: another order of 48 additions. bfloat16: bit-equal without a bias; with one,
                # it is added before the only rounding, so an output may be one step of 2^-8 off
                atol = 1e-5 if dtype is torch.float32 else (1e-2 if has_bias else 0.0)
                assert torch.allclose(layer(inputs), expected, rtol=atol, atol=atol)


def test_layers_with_one_input_share_one_product_and_others_do_not() -> None:
    model, packed = Attention(True), PackedWeights()
    first, second = torch.randn(3, 48), torch.randn(3, 48)
    with torch.no_grad(), packed.installed(model):
        model.q_proj(first)
        other = model.k_proj(second)  # not the input that q saw
        assert torch.allclose(
            other, functional.linear(second, *model.k_proj.parameters()), atol=1e-5
        )
        left = model.v_proj(second)
        assert torch.allclose(
            left, functional.linear(second, *model.v_proj.parameters()), atol=1e-5
        )


def test_copies_exist_only_inside_and_the_modules_are_as_before() -> None:
    model, packed = tiny_model("qwen2"), PackedWeights()
    before = [dict(vars(module)) for module in model.modules()]
    linear_bytes = sum(m.weight.nbytes for m in model.modules() if type(m) is torch.nn.Linear)
    with pytest.raises(ZeroDivisionError), torch.no_grad(), packed.installed(model):
        assert packed.num_bytes == 0  # made when first used
        plain_logprobs(model, [1, 2, 3])
        assert packed.num_bytes == linear_bytes
        raise ZeroDivisionError
    assert packed.num_bytes == 0
    assert [dict(vars(module)) for module in model.modules()] == before


def test_changed_weights_are_used_after_forget() -> None:
    model, packed = Attention(False), PackedWeights()
    inputs = torch.randn(2, 64)
    with torch.no_grad(), packed.installed(model):
        old = model.o_proj(inputs)
        model.o_proj.weight.mul_(-1.0)
        packed.forget()
        assert torch.allclose(model.o_proj(inputs), -old)


def test_a_new_policy_version_inside_a_session_uses_the_new_weights() -> None:
    model = tiny_model("llama", seed=3)
    engine, greedy = Engine(model), SamplingParams(temperature=0.0)
    with engine.session():
        for version in range(3):
            path = engine.open([3, 1, 4])
            (segment,) = engine.decode([path], max_new_tokens=4, sampling=greedy, keys=[0])
            token_ids = path.token_ids
            engine.close(path)
            law = plain_logprobs(copy_of(model), token_ids)
            expected = [float(law[2 + i, t]) for i, t in enumerate(segment.token_ids)]
            assert segment.logprobs == pytest.approx(expected, abs=2e-5)
            with torch.no_grad():
                model.model.layers[0].mlp.up_proj.weight.mul_(-1.5)
            engine.set_policy_version(version + 1)


def copy_of(model: torch.nn.Module) -> torch.nn.Module:
    """A plain copy of a model that is inside a session."""
    plain = tiny_model("llama")
    plain.load_state_dict(copy.deepcopy(model.state_dict()))
    return plain


@pytest.mark.parametrize("case", ["autocast", "replaced", "half", "subclass"])
def test_what_cannot_be_packed_is_left_alone(case: str) -> None:
    class Special(torch.nn.Linear):
        pass

    layer = Special(4, 4) if case == "subclass" else torch.nn.Linear(4, 4)
    if case == "half":
        layer = layer.half()
    if case == "replaced":
        layer.forward = lambda inputs: inputs + 1  # type: ignore[method-assign,assignment]  # as a wrapper does
    model = torch.nn.Sequential(layer)
    before = dict(vars(layer))
    with torch.autocast("cpu", enabled=case == "autocast"), PackedWeights().installed(model):
        assert dict(vars(layer)) == before
    assert dict(vars(layer)) == before


def test_packing_can_be_switched_off() -> None:
    model = tiny_model("llama")
    engine = Engine(model, EngineConfig(fast_layers=False))
    with engine.session():
        assert not any("forward" in vars(module) for module in model.modules())
