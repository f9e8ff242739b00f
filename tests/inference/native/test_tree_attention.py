"""The compiled kernel: which keys it reads, bfloat16, threads, and life without a compiler."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.engine import Engine, EngineConfig
from inference.executor import choose_backend
from inference.native import build
from inference.native.tree_attention import TreePart, attend_tree, plan_tree
from tests.tiny_models import tiny_model

needs_kernel = pytest.mark.skipif(build.load_kernel() is None, reason="no C++ compiler")


def tree(paths: list[list[int]], counts: list[int] | None = None) -> TreePart:
    """Plan of paths given as lists of slots."""
    lengths = np.array([len(path) for path in paths])
    slots: NDArray[np.int64] = np.zeros((len(paths), lengths.max()), dtype=np.int64)
    for row, path in zip(slots, paths, strict=True):
        row[: len(path)] = path
    num = np.array(counts or [1] * len(paths))
    positions = np.concatenate([np.arange(n - c, n) for n, c in zip(lengths, num, strict=True)])
    return plan_tree(slots=slots, lengths=lengths, counts=num, positions=positions)


def covered(part: TreePart) -> dict[int, list[int]]:
    """Positions that each query token reads, over all its chains."""
    seen: dict[int, list[int]] = {}
    arrays = part.arrays
    for chain in range(part.num_chains):
        first, num = int(arrays["first"][chain]), int(arrays["num_keys"][chain])
        for entry in range(*arrays["entry_begin"][chain : chain + 2].tolist()):
            seen.setdefault(int(arrays["member"][entry]), []).extend(range(first, first + num))
    return {token: sorted(positions) for token, positions in seen.items()}


@needs_kernel
def test_each_node_of_a_tree_is_read_once() -> None:
    prompt, a, b = list(range(100)), list(range(100, 140)), list(range(140, 180))
    leaves = [[*prompt, *a, 200], [*prompt, *b, 201], [*prompt, *a, 202], [*prompt, *b, 203]]
    part = tree(leaves)
    assert part.num_keys_read == 100 + 40 + 40 + 4  # not 4 * 141
    assert part.num_chains == 1 + 2 + 4


@needs_kernel
def test_a_short_common_run_is_read_per_branch() -> None:
    part = tree([[0, 1, 2, 10], [0, 1, 2, 11]])  # saves 3 reads, a chain costs 8
    assert (part.num_chains, part.num_keys_read) == (2, 8)


@needs_kernel
@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30), st.integers(1, 25)), max_size=12))
def test_every_token_reads_each_position_of_its_path_once(
    branches: list[tuple[int, int, int]],
) -> None:
    paths, free = [list(range(20))], 20
    for parent, keep, more in branches:
        start = paths[parent % len(paths)][: keep + 1]
        paths.append(start + list(range(free, free + more)))
        free += more
    part = tree(paths)
    assert covered(part) == {row: list(range(len(path))) for row, path in enumerate(paths)}
    for chain in range(part.num_chains):
        first, num = int(part.arrays["first"][chain]), int(part.arrays["num_keys"][chain])
        entries = range(*part.arrays["entry_begin"][chain : chain + 2].tolist())
        runs = {tuple(paths[int(part.arrays["member"][e])][first : first + num]) for e in entries}
        assert len(runs) == 1  # the members have these slots in common


def exact(
    part_paths: list[list[int]], query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """Attention of one query per path in float64, [T, H, Dv]."""
    per_kv = len(query) // len(keys)
    rows = []
    for token, path in enumerate(part_paths):
        k, v = keys[:, path].double(), values[:, path].double()
        k, v = k.repeat_interleave(per_kv, 0), v.repeat_interleave(per_kv, 0)
        weights = (torch.einsum("hd,hkd->hk", query[:, token].double(), k) * 0.125).softmax(-1)
        rows.append(torch.einsum("hk,hkd->hd", weights, v))
    return torch.stack(rows)


def random_case(
    dtype: torch.dtype, width: int, num_heads: int
) -> tuple[list[list[int]], torch.Tensor, torch.Tensor, torch.Tensor]:
    paths = [
        list(range(150)) + list(range(150 + 40 * i, 150 + 40 * i + 7 + 5 * i)) for i in range(6)
    ]
    generator = torch.Generator().manual_seed(width)
    query = torch.randn(num_heads, 6, width, generator=generator).to(dtype)
    keys = torch.randn(2, 400, width, generator=generator).to(dtype)
    values = torch.randn(2, 400, width + 6, generator=generator).to(dtype)
    return paths, query, keys, values


@needs_kernel
@pytest.mark.parametrize("width", [8, 16, 36, 64, 80, 128])
@pytest.mark.parametrize("num_heads", [2, 4, 14])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_widths_and_heads_of_any_size(dtype: torch.dtype, width: int, num_heads: int) -> None:
    paths, query, keys, values = random_case(dtype, width, num_heads)
    part = tree(paths)
    out = attend_tree(
        part, query, keys, values, scale=0.125, window=None, softcap=None, sinks_H=None
    )
    # bfloat16: the weights and the output are rounded to 8 bits each
    atol = 2e-6 if dtype is torch.float32 else 1.5e-2
    assert torch.allclose(out.double(), exact(paths, query, keys, values), atol=atol)


@needs_kernel
def test_the_number_of_threads_does_not_change_a_bit() -> None:
    paths, query, keys, values = random_case(torch.float32, 64, 8)
    before, outputs = torch.get_num_threads(), []
    try:
        for num_threads in (1, 2, 3):
            torch.set_num_threads(num_threads)
            outputs.append(
                attend_tree(
                    tree(paths),
                    query,
                    keys,
                    values,
                    scale=0.125,
                    window=None,
                    softcap=None,
                    sinks_H=None,
                )
            )
    finally:
        torch.set_num_threads(before)
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])


@needs_kernel
def test_keys_nobody_reads_cannot_poison_a_row() -> None:
    values = torch.ones(1, 8, 4)
    values[:, 0] = math.nan
    part = tree([[1, 2, 3, 4], [5]])
    out = attend_tree(
        part,
        torch.ones(1, 2, 4),
        torch.ones(1, 8, 4),
        values,
        scale=1.0,
        window=None,
        softcap=None,
        sinks_H=None,
    )
    assert torch.equal(out, torch.ones(2, 1, 4))


def test_without_a_compiler_the_engine_uses_torch_operations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAMIFY_NATIVE", "0")
    build.load_kernel.cache_clear()
    try:
        assert choose_backend("auto", torch.device("cpu"), torch.float32) == "shared_prefix"
        with pytest.raises(ValueError, match="C\\+\\+ compiler"):
            Engine(tiny_model(), EngineConfig(attention="native"))
        with Engine(tiny_model()).session():
            pass
    finally:
        build.load_kernel.cache_clear()


@needs_kernel
def test_a_broken_compiler_is_a_warning_and_not_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build.load_kernel.cache_clear()
    try:
        assert build.load_kernel() is None
        assert "cannot be built" in caplog.text
    finally:
        build.load_kernel.cache_clear()


def test_other_dtypes_and_devices_do_not_use_the_kernel() -> None:
    assert choose_backend("auto", torch.device("cpu"), torch.float16) == "shared_prefix"
    assert choose_backend("auto", torch.device("cuda"), torch.float32) == "shared_prefix"
    assert choose_backend("gather", torch.device("cpu"), torch.float32) == "gather"
