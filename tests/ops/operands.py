"""Random inputs and weights, and graphs of a single operator, the same on every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from archc.declaration.base import Operator
from archc.ir.graph import Graph
from archc.ir.rewriter import Rewriter
from archc.ir.verifier import verify
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from archc.weights.tensor import ArrayTensor, Weights

Tensor = torch.Tensor
Symbols = Sequence[Mapping[int, str]]
"""For each input, the names of its symbolic axes."""


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normally distributed numbers, the same on every run."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def integers(*shape: int, below: int, seed: int = 0, dtype: torch.dtype = torch.int64) -> Tensor:
    """Integers from 0 to `below` - 1, the same on every run."""
    return torch.randint(0, below, shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def symbolic_batch(inputs: Sequence[Tensor]) -> Symbols:
    """Name the first axis `N` in the first input, and in inputs with equal rank and equal first size.

    If the first input has fewer than two axes, no axis is named.
    """
    if not inputs or inputs[0].dim() < 2:
        return [{} for _ in inputs]
    size = inputs[0].shape[0]
    # Operands broadcast from the last axis, so the first axis of an operand of lower rank is not the batch.
    rank = inputs[0].dim()
    return [{0: "N"} if tensor.dim() == rank and tensor.shape[0] == size else {} for tensor in inputs]


def one_node(op: Operator, inputs: Sequence[Tensor], weights: Mapping[str, Tensor], symbolic: Symbols = ()) -> Graph:
    """Graph with inputs `x0`, `x1`, …, the operator as layer `layer`, and outputs `y0`, `y1`, …"""
    graph = Graph("one")
    rewriter = Rewriter(graph)
    operands = [
        rewriter.input(f"x{number}", type_of(tensor, symbolic[number] if symbolic else {}))
        for number, tensor in enumerate(inputs)
    ]
    node = rewriter.add(op, operands, name="layer")
    for number, value in enumerate(node.results):
        rewriter.output(f"y{number}", value)
    graph.tensors = Weights({f"layer.{name}": ArrayTensor(weights[name].numpy()) for name in node.weights})
    verify(graph)
    return graph


def type_of(tensor: Tensor, symbolic: Mapping[int, str]) -> TensorType:
    """The type of a tensor, with symbols for some of its axes."""
    dtype = next(dtype for dtype in DType if getattr(torch, dtype.torch) is tensor.dtype)
    return TensorType(dtype, tuple(symbol(symbolic[k]) if k in symbolic else n for k, n in enumerate(tensor.shape)))


def draw_weights(op: Operator, inputs: Sequence[Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values for all parameters of an operator: the given ones, and random ones for the others."""
    parameters = op.infer([type_of(tensor, {}) for tensor in inputs]).parameters
    values = {}
    for seed, (name, wanted) in enumerate(parameters.items(), start=100):
        shape = tuple(int(str(dim)) for dim in wanted.shape)
        if name in given:
            values[name] = given[name]
        elif not wanted.dtype.floating:
            values[name] = integers(*shape, below=9, seed=seed, dtype=getattr(torch, wanted.dtype.torch))
        else:
            drawn = random(*shape, seed=seed)
            values[name] = drawn.abs() + 0.5 if name.endswith("var") else drawn
        assert tuple(values[name].shape) == shape, f"{name} is {wanted}, not {list(values[name].shape)}"
    return values
