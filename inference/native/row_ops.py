"""Python side of the row-wise kernels: storing keys and values at slots, root-mean-square norm."""

from __future__ import annotations

import ctypes

import torch

from inference.native.build import load_kernel


def write_slots(store_GSD: torch.Tensor, slots_T: torch.Tensor, new_GTD: torch.Tensor) -> bool:
    """Copy vectors [G, T, D] to their slots in the store, if the kernel can; tell whether it did.

    It can on a CPU, for equal dtypes and vectors that are contiguous in memory.
    """
    kernel = load_kernel() if store_GSD.device.type == "cpu" else None
    if kernel is None or store_GSD.dtype != new_GTD.dtype or new_GTD.stride(2) != 1:
        return False
    size = new_GTD.element_size()
    kernel.write_slots(
        ctypes.c_void_p(new_GTD.data_ptr()),
        ctypes.c_void_p(store_GSD.data_ptr()),
        ctypes.c_void_p(slots_T.data_ptr()),
        ctypes.c_int64(new_GTD.shape[0]),
        ctypes.c_int64(new_GTD.shape[1]),
        ctypes.c_int64(new_GTD.shape[2] * size),
        ctypes.c_int64(new_GTD.stride(0) * size),
        ctypes.c_int64(new_GTD.stride(1) * size),
        ctypes.c_int64(store_GSD.stride(0) * size),
    )
    return True


def rms_norm(inputs: torch.Tensor, weight_D: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Return weight * (x / sqrt(mean(x^2) + epsilon)) over the last axis; arithmetic in float32.

    Args:
        inputs: [..., D] float32 or bfloat16 on the CPU.
        weight_D: [D] of the same dtype.
        epsilon: Added to the mean square.
    """
    inputs = inputs.contiguous()
    out = torch.empty_like(inputs)
    kernel = load_kernel()
    assert kernel is not None, "rms_norm without a kernel"
    kernel.rms_norm(
        ctypes.c_void_p(inputs.data_ptr()),
        ctypes.c_void_p(weight_D.data_ptr()),
        ctypes.c_void_p(out.data_ptr()),
        ctypes.c_int64(inputs.numel() // weight_D.numel()),
        ctypes.c_int64(weight_D.numel()),
        ctypes.c_float(epsilon),
        ctypes.c_int64(inputs.dtype == torch.bfloat16),
    )
    return out
