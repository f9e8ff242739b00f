"""Attention over stored keys against plain softmax attention in float64."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inference.attention import AttentionSettings, attend, merge, partial_attention
from inference.kv.pool import FullKV
from inference.native.build import load_kernel
from inference.step_plan import AttentionBackend, Spans, StepPlan, build_plan

CPU = torch.device("cpu")
BACKENDS = [
    "gather",
    "shared_prefix",
    pytest.param(
        "native", marks=pytest.mark.skipif(load_kernel() is None, reason="no C++ compiler")
    ),
]


def test_merge_gives_the_worked_numbers() -> None:
    settings = AttentionSettings(scale=1.0)
    query = torch.tensor([[1.0, 0.0]])
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    out_a, lse_a = partial_attention(query, keys[:2], values[:2], settings, None)
    out_b, lse_b = partial_attention(query, keys[2:], values[2:], settings, None)
    assert out_a[0].tolist() == pytest.approx([1.53788284, 2.53788284], abs=1e-6)
    assert (lse_a.item(), lse_b.item()) == pytest.approx((1.31326169, 2.0), abs=1e-6)
    out, lse = merge(out_a, lse_a, out_b, lse_b)
    assert out[0].tolist() == pytest.approx([3.84102497, 4.84102497], abs=1e-6)
    assert lse.item() == pytest.approx(2.40760596, abs=1e-6)
    whole, whole_lse = partial_attention(query, keys, values, settings, None)
    assert torch.allclose(out, whole, atol=1e-6) and torch.allclose(lse, whole_lse, atol=1e-6)


def test_merging_with_an_empty_set_changes_nothing() -> None:
    query, keys, values = torch.randn(3, 4), torch.randn(2, 4), torch.randn(2, 5)
    settings = AttentionSettings(scale=0.5)
    some = partial_attention(query, keys, values, settings, None)
    none = partial_attention(query, keys[:0], values[:0], settings, None)
    hidden = partial_attention(query, keys, values, settings, torch.full((3, 2), -math.inf))
    for empty in (none, hidden):
        assert (empty[0] == 0).all() and (empty[1] == -math.inf).all()
        assert torch.equal(merge(*some, *empty)[0], some[0])
        assert torch.equal(merge(*empty, *some)[0], some[0])


def test_three_parts_merge_in_any_order_to_the_same_result() -> None:
    generator = torch.Generator().manual_seed(0)
    query, keys, values = (torch.randn(n, 4, generator=generator) for n in (3, 9, 9))
    settings = AttentionSettings(scale=1.0)
    a, b, c = (
        partial_attention(query, keys[i : i + 3], values[i : i + 3], settings, None)
        for i in (0, 3, 6)
    )
    left = merge(*merge(*a, *b), *c)
    right = merge(*a, *merge(*c, *b))
    assert torch.allclose(left[0], right[0], atol=1e-6)  # float32, another order of summation


def reference(
    query_HD: torch.Tensor,
    keys_GKD: torch.Tensor,
    values_GKD: torch.Tensor,
    settings: AttentionSettings,
) -> torch.Tensor:
    """One query at the last position, one head at a time, float64."""
    num_heads, num_keys = len(query_HD), keys_GKD.shape[1]
    outputs = []
    for head in range(num_heads):
        group = head // (num_heads // len(keys_GKD))
        scores = keys_GKD[group].double() @ query_HD[head].double() * settings.scale
        if settings.softcap is not None:
            scores = settings.softcap * torch.tanh(scores / settings.softcap)
        if settings.window is not None:
            scores[: max(0, num_keys - settings.window)] = -math.inf
        if settings.sinks_H is not None:
            scores = torch.cat([scores, settings.sinks_H[head : head + 1].double()])
        weights = scores.softmax(-1)[:num_keys]
        outputs.append(weights @ values_GKD[group].double())
    return torch.stack(outputs)


def random_spans(rng: np.random.Generator) -> Spans:
    """Rows of three families with prefixes of 90, 40 and 1 tokens, one lone row, and two prefills."""
    shared = [np.arange(0, 90), np.arange(90, 130), np.arange(130, 131)]
    free = iter(range(131, 10_000))
    paths, counts = [], []
    for prefix, members in zip(shared, (4, 3, 2), strict=True):
        for _ in range(members):
            own = [next(free) for _ in range(int(rng.integers(1, 12)))]
            paths.append([*prefix, *own])
            counts.append(1)
    paths += [[next(free) for _ in range(50)], [next(free) for _ in range(30)], list(range(20))]
    counts += [1, 30, 13]
    paths[-1] += [next(free) for _ in range(13)]
    lengths = np.array([len(path) for path in paths])
    slots = np.zeros((len(paths), lengths.max()), dtype=np.int64)
    for row, path in zip(slots, paths, strict=True):
        row[: len(path)] = path
    return Spans(slots=slots, lengths=lengths, counts=np.array(counts))


SETTINGS = {
    "plain": AttentionSettings(scale=0.4),
    "window": AttentionSettings(scale=0.4, window=7),
    "window of one": AttentionSettings(scale=0.4, window=1),
    "softcap": AttentionSettings(scale=0.4, softcap=1.5),
    "sinks": AttentionSettings(scale=0.4, window=20, sinks_H=torch.tensor([0.5, -1.0, 2.0, 0.0])),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
def test_all_backends_equal_plain_attention(
    monkeypatch: pytest.MonkeyPatch, backend: AttentionBackend, name: str, num_kv_heads: int
) -> None:
    monkeypatch.setattr("inference.step_plan._MIN_SAVED_KEYS", 1)
    rng = np.random.default_rng(num_kv_heads)
    spans = random_spans(rng)
    plan = plan_of(spans, backend)
    assert (plan.family is not None) == (backend == "shared_prefix")
    num_tokens, num_slots = len(plan.positions_T), int(spans.slots.max()) + 1
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(num_kv_heads, num_slots, 8, generator=generator)
    values = torch.randn(num_kv_heads, num_slots, 6, generator=generator)
    query = torch.randn(4, num_tokens, 8, generator=generator)
    kv = FullKV()
    kv.write(0, torch.arange(num_slots), keys, values)
    out = attend(plan, kv, 0, query, SETTINGS[name])
    token = 0
    for row in range(len(spans.counts)):
        for position in range(spans.lengths[row] - spans.counts[row], spans.lengths[row]):
            seen = torch.from_numpy(spans.slots[row, : position + 1])
            expected = reference(query[:, token], keys[:, seen], values[:, seen], SETTINGS[name])
            assert torch.allclose(out[token].double(), expected, atol=2e-6)  # float32 rounding
            token += 1
    assert token == num_tokens


def test_long_prefills_are_cut_into_bounded_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    slots = np.arange(60)[None].repeat(3, 0)
    spans = Spans(slots=slots, lengths=np.array([60, 50, 33]), counts=np.array([60, 20, 33]))
    whole = plan_of(spans, "gather")
    monkeypatch.setattr("inference.step_plan._MAX_BLOCK_SCORES", 300)
    cut = plan_of(spans, "gather")
    assert len(whole.prefill) == 1 < len(cut.prefill)
    assert all(part.queries.numel() * part.keys.slots.shape[1] <= 300 for part in cut.prefill)
    kv, query = FullKV(), torch.randn(2, 113, 4, generator=torch.Generator().manual_seed(0))
    kv.write(0, torch.arange(60), query[:, :60], query[:, :60])
    settings = AttentionSettings(scale=1.0, window=9)
    expected = attend(whole, kv, 0, query, settings)
    assert torch.allclose(attend(cut, kv, 0, query, settings), expected, atol=1e-6)


def test_a_key_of_another_path_cannot_poison_a_row() -> None:
    kv, values = FullKV(), torch.ones(1, 8, 2)
    values[:, 0] = math.nan  # slot 0 belongs to nobody here
    kv.write(0, torch.arange(8), torch.ones(1, 8, 2), values)
    slots = np.array([[1, 2, 3, 4], [5, 0, 0, 0]])
    plan = plan_of(Spans(slots=slots, lengths=np.array([4, 1]), counts=np.array([1, 1])), "gather")
    out = attend(plan, kv, 0, torch.ones(1, 2, 2), AttentionSettings(scale=1.0))
    assert torch.equal(out, torch.ones(2, 1, 2))


def test_a_plan_lists_positions_and_slots_of_the_packed_tokens() -> None:
    slots: NDArray[np.int64] = np.array([[4, 5, 6, 0], [7, 8, 9, 3]])
    plan = plan_of(Spans(slots=slots, lengths=np.array([3, 4]), counts=np.array([1, 3])), "gather")
    assert plan.positions_T.tolist() == [2, 1, 2, 3]
    assert plan.write_slots_T.tolist() == [6, 8, 9, 3]


def plan_of(spans: Spans, backend: AttentionBackend) -> StepPlan:
    tokens = np.zeros(int(spans.counts.sum()), dtype=np.int64)
    return build_plan(spans, token_ids=tokens, logit_rows=tokens[:0], backend=backend, device=CPU)
