"""Probe: does the model, run over our KV store, give the logits of its own plain forward?

Some models never call the attention function that they are told to use, and some keep state outside
of attention. Both give silently wrong text. So the first session of an engine runs two short random
rows through the store (a prefill and three decoding steps) and compares with one stock forward.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from inference.kv.pool import FullKV
from inference.runner import ModelRunner, StepContext, rollout_mode
from inference.step_plan import AttentionBackend, Spans, build_plan
from inference.supported import UnsupportedModelError

_NUM_ROWS = 2
_PREFILL = 20
_DECODE = 3
_TOLERANCE = 1e-3
_LOW_PRECISION_TOLERANCE = 5e-2
_FULL_PRECISION = (torch.float32, torch.float64)


def probe(runner: ModelRunner, backend: AttentionBackend) -> None:
    """Compare the engine's forward with a stock forward on random tokens.

    Neither random state nor the module is changed. Must not run inside `rollout_mode`.

    Raises:
        UnsupportedModelError: Logits differ by more than 1e-3 (5e-2 in half precision, also by
            autocast) of the largest logit, or a layer did not call our attention function.
    """
    rng = np.random.default_rng(0)
    length = min(_PREFILL + _DECODE, runner.max_positions or _PREFILL + _DECODE)
    token_ids = rng.integers(0, runner.vocabulary_size, (_NUM_ROWS, length))
    with rollout_mode(runner.model, attention=None):
        ids = torch.from_numpy(token_ids).to(runner.device)
        expected = runner.model(input_ids=ids, use_cache=False).logits
    try:
        with rollout_mode(runner.model):
            actual, layers = _engine_logits(runner, token_ids, backend)
    except (TypeError, AttributeError) as error:
        raise UnsupportedModelError(runner.model_type, f"its forward failed ({error})") from error
    missing = set(range(runner.num_layers)) - layers
    if missing:
        raise UnsupportedModelError(
            runner.model_type, f"layers {sorted(missing)} do not call the attention function"
        )
    _compare(runner.model_type, actual, expected)


def _engine_logits(
    runner: ModelRunner, token_ids: NDArray[np.int64], backend: AttentionBackend
) -> tuple[torch.Tensor, set[int]]:
    """Return logits [rows, length, V] of prefill and decoding steps, and the layers seen."""
    num_rows, length = token_ids.shape
    slots = np.arange(num_rows * length).reshape(num_rows, length)
    kv, layers, parts = FullKV(), set(range(runner.num_layers)), []
    for start, end in [
        (0, length - _DECODE),
        *((t, t + 1) for t in range(length - _DECODE, length)),
    ]:
        kv.reserve(slots.size)
        counts = np.full(num_rows, end - start)
        spans = Spans(slots=slots, lengths=np.full(num_rows, end), counts=counts)
        plan = build_plan(
            spans,
            token_ids=token_ids[:, start:end].reshape(-1),
            logit_rows=np.arange(counts.sum()),
            backend=backend,
            device=runner.device,
        )
        context = StepContext(plan, kv)
        parts.append(runner.logits(context).unflatten(0, (num_rows, -1)))
        layers &= context.layers_called
    return torch.cat(parts, dim=1), layers


def _compare(model_type: str, actual: torch.Tensor, expected: torch.Tensor) -> None:
    is_exact = expected.dtype in _FULL_PRECISION and not torch.is_autocast_enabled(
        expected.device.type
    )
    tolerance = _TOLERANCE if is_exact else _LOW_PRECISION_TOLERANCE
    largest = float(expected.float().abs().max())
    difference = float((actual.float() - expected.float()).abs().max())
    if not difference <= tolerance * largest:
        raise UnsupportedModelError(
            model_type,
            f"its logits over our KV store differ by {difference:.3g} from a plain forward "
            f"(allowed: {tolerance * largest:.3g})",
        )
