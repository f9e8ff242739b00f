"""Packed weights: linear layers in the block layout that oneDNN computes with, on a CPU.

A matrix product of a few rows spends half of its time on bringing the weight into another layout. For
the duration of a session each `torch.nn.Linear` gets a forward that keeps the re-ordered weight, made
at its first call. Projections of the same input (q, k, v; gate, up) are packed as one matrix.

The module and its parameters are not touched: the override is an instance attribute, taken away at
the end of the session together with the copies. Costs: memory for one copy of the linear weights while
the session is open, and about 2 ms per million weights at the first forward. Results: bit-equal in
bfloat16, another order of summation in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

_GROUPS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Children of one module that read the same input; the first one is called first."""
_DTYPES = (torch.float32, torch.bfloat16)
_BATCH_HINT = 16
"""Rows for which the layout is chosen; decoding is the common case."""


class PackedWeights:
    """Packed copies of the linear layers of a model while `installed` is open."""

    def __init__(self) -> None:
        self._matrices: list[PackedMatrix] = []

    @property
    def num_bytes(self) -> int:
        """Bytes of the copies that exist now."""
        return sum(matrix.num_bytes for matrix in self._matrices)

    @contextmanager
    def installed(self, model: torch.nn.Module) -> Iterator[None]:
        """Let the linear layers of `model` use packed weights; restored exactly on exit.

        Nothing happens off the CPU, under autocast, or without oneDNN. Layers of another type, other
        dtypes, and layers whose forward somebody else replaced are left alone.
        """
        changed: list[torch.nn.Module] = []
        try:
            if torch.backends.mkldnn.is_available() and not torch.is_autocast_enabled("cpu"):
                for group in _groups(model):
                    matrix = PackedMatrix(group)
                    self._matrices.append(matrix)
                    for index, linear in enumerate(group):
                        linear.forward = PackedForward(matrix, index)  # type: ignore[method-assign]
                        changed.append(linear)
            yield
        finally:
            for layer in changed:
                del layer.forward
            self._matrices.clear()

    def forget(self) -> None:
        """Drop the copies, because the weights changed; they are made again when needed."""
        for matrix in self._matrices:
            matrix.forget()


@dataclass(eq=False, slots=True)
class PackedMatrix:
    """The weights of layers with the same input, as one matrix; made when first used."""

    linears: tuple[torch.nn.Linear, ...]
    _packed: torch.Tensor | None = None
    _bias: torch.Tensor | None = None
    _input: torch.Tensor | None = None
    _outputs: dict[int, torch.Tensor] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """Bytes of the copy; 0 before the first use."""
        return 0 if self._packed is None else sum(lin.weight.nbytes for lin in self.linears)

    def forget(self) -> None:
        """Drop the copy."""
        self._packed = self._bias = self._input = None
        self._outputs.clear()

    def output(self, index: int, inputs: torch.Tensor) -> torch.Tensor:
        """Return the output of layer `index`; the first one computes all of them.

        Args:
            index: Which of `linears`.
            inputs: [..., in_features].
        """
        if index and inputs is self._input and index in self._outputs:
            return self._take(index)
        product = self._product(inputs)
        if len(self.linears) == 1:
            return product
        sizes = [linear.out_features for linear in self.linears]
        self._outputs = dict(enumerate(product.split(sizes, dim=-1)))
        self._input = inputs
        return self._take(index)

    def _take(self, index: int) -> torch.Tensor:
        output = self._outputs.pop(index)
        if not self._outputs:
            self._input = None
        return output

    def _product(self, inputs: torch.Tensor) -> torch.Tensor:
        if self._packed is None:
            self._pack()
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            inputs, self._packed, self._bias, "none", [], ""
        )
        return product

    def _pack(self) -> None:
        weights = [linear.weight.detach() for linear in self.linears]
        biases = [linear.bias.detach() for linear in self.linears if linear.bias is not None]
        weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _BATCH_HINT)
        self._bias = torch.cat(biases) if biases else None


class PackedForward:
    """Replaces `forward` of one linear layer."""

    __slots__ = ("index", "matrix")

    def __init__(self, matrix: PackedMatrix, index: int) -> None:
        self.matrix = matrix
        self.index = index

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        """Return the layer's output [..., out_features]."""
        return self.matrix.output(self.index, input)


def _groups(model: torch.nn.Module) -> list[tuple[torch.nn.Linear, ...]]:
    """Return the layers to pack, those with the same input together."""
    groups: list[tuple[torch.nn.Linear, ...]] = []
    grouped: set[torch.nn.Module] = set()
    for module in model.modules():
        for names in _GROUPS:
            linears = tuple(lin for name in names if (lin := _linear(module, name)) is not None)
            if len(linears) == len(names) and _is_alike(linears):
                groups.append(linears)
                grouped.update(linears)
    singles = (m for m in model.modules() if _is_packable(m) and m not in grouped)
    return groups + [(linear,) for linear in singles]  # type: ignore[misc]  # _is_packable checks


def _linear(module: torch.nn.Module, name: str) -> torch.nn.Linear | None:
    child = getattr(module, name, None)
    return child if isinstance(child, torch.nn.Linear) and _is_packable(child) else None


def _is_packable(module: torch.nn.Module) -> bool:
    """Whether it is a plain linear layer with a whole weight of a known dtype on the CPU."""
    return (
        type(module) is torch.nn.Linear
        and "forward" not in vars(module)
        and module.weight.device.type == "cpu"
        and module.weight.dtype in _DTYPES
        and module.weight.numel() == module.in_features * module.out_features
        and (module.bias is None or module.bias.dtype == module.weight.dtype)
    )


def _is_alike(linears: tuple[torch.nn.Linear, ...]) -> bool:
    """Whether one product can replace those of all layers."""
    first = linears[0]
    return all(
        other.in_features == first.in_features
        and other.weight.dtype == first.weight.dtype
        and (other.bias is None) == (first.bias is None)
        and not other._forward_pre_hooks
        for other in linears
    )
