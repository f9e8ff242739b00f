"""Fused norms against the norms of transformers."""

import pytest
import torch

from inference.fused_norms import fused_norms
from inference.native.build import load_kernel
from tests.tiny_models import plain_logprobs, tiny_model

pytestmark = pytest.mark.skipif(load_kernel() is None, reason="no C++ compiler")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [5, 64, 300])
def test_a_norm_equals_that_of_transformers(dtype: torch.dtype, width: int) -> None:
    model = tiny_model("qwen3")
    norm = type(model.model.norm)(width).to(dtype)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(width, generator=generator))
        inputs = (torch.randn(1, 7, width, generator=generator) * 3).to(dtype)
        expected = norm(inputs)
        with fused_norms(torch.nn.ModuleList([norm])):
            assert "forward" in vars(norm)
            actual = norm(inputs)
            wide = norm(inputs.double())
    assert "forward" not in vars(norm) and wide.dtype in (torch.float64, torch.float32)
    # the sum of squares has another order; in bfloat16 that may move a rounding by one step (2^-7)
    tolerance = 2e-6 if dtype is torch.float32 else 8e-3
    assert torch.allclose(actual.float(), expected.float(), rtol=tolerance, atol=tolerance)
    if dtype is torch.bfloat16:
        assert (actual == expected).float().mean() > 0.99


def test_only_norms_with_the_formula_of_llama_are_replaced() -> None:
    for model_type, is_known in (
        ("llama", True),
        ("mistral", True),
        ("qwen3", True),
        ("gemma2", False),
    ):
        model = tiny_model(model_type)
        law = plain_logprobs(model, [1, 2, 3])
        with fused_norms(model):
            changed = [m for m in model.modules() if "forward" in vars(m)]
            assert bool(changed) == is_known, model_type
            assert torch.allclose(plain_logprobs(model, [1, 2, 3]), law, atol=2e-5)
        assert not any("forward" in vars(m) for m in model.modules())
