"""Cells of the table of operators × dtypes: cases of all operators, with operands of each dtype."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

import tests.ops
from archc.declaration.base import Operator
from archc.declaration.dtypes import requirements
from archc.ir.graph import Graph
from archc.ir.rewriter import Rewriter
from archc.types.tensor_type import DType
from archc.weights.dtype_conversion import from_torch
from archc.weights.tensor import ArrayTensor, Weights
from tests.ops.comparison import as_tuple
from tests.ops.harness import Case
from tests.ops.modules import Reference, call_reference
from tests.ops.operands import draw_weights, type_of

Tensor = torch.Tensor

EACH = 3
"""Number of cases of each operator."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A case of an operator, with one operand and the operands of equal dtype converted to a dtype.

    Attributes:
        operand: name of the operand in the signature.
    """

    op: Operator
    operand: str
    dtype: DType
    inputs: tuple[Tensor, ...]
    reference: Reference

    def __str__(self) -> str:
        return f"{self.op} with {self.operand} in {self.dtype}"

    def weights(self) -> dict[str, Tensor]:
        """Values of the operator's parameters, in their dtypes."""
        types = [type_of(tensor, {}) for tensor in self.inputs]
        wanted = self.op.infer(types).parameters
        drawn = draw_weights(self.op, self.inputs, {})
        return {name: tensor.to(torch_dtype(wanted[name].dtype)) for name, tensor in drawn.items()}

    @cached_property
    def expected(self) -> tuple[Tensor, ...]:
        """Results of the case's reference in f64 or i64, rounded to the dtypes of the operator's results.

        Integers wrap around.  bool stays bool, since operators on integers differ from those on bool.
        """
        results = as_tuple(
            call_reference(
                self.reference,
                [_widest(tensor) for tensor in self.inputs],
                {name: _widest(tensor) for name, tensor in self.weights().items()},
            )
        )
        types = self.op.infer([type_of(tensor, {}) for tensor in self.inputs]).results
        return tuple(tensor.to(torch_dtype(type.dtype)) for tensor, type in zip(results, types, strict=True))


def torch_dtype(dtype: DType) -> torch.dtype:
    """PyTorch's form of a dtype."""
    return getattr(torch, dtype.torch)  # type: ignore[no-any-return]


def all_cases() -> dict[str, list[Case]]:
    """The first cases of each operator, by its name."""
    found: dict[str, list[Case]] = {}
    for module in pkgutil.iter_modules(tests.ops.__path__):
        if module.name.startswith("test_"):
            for one in getattr(importlib.import_module(f"tests.ops.{module.name}"), "CASES", ()):
                found.setdefault(one.op.name, []).append(one)
    return {name: cases[:EACH] for name, cases in found.items()}


def cells(cases: Sequence[Case], dtype: DType) -> Iterator[Cell]:
    """Cells of one operator in a dtype: for each case, one for each operand that declares its dtypes."""
    for one in cases:
        names = [pattern.name for pattern in one.op.data_operands([type_of(tensor, {}) for tensor in one.inputs])]
        needs = requirements(one.op.dtypes, names)[: len(one.inputs)]
        for position, need in enumerate(needs):
            if need.own is None or (need.like is not None and one.inputs[need.like].dtype is torch_dtype(dtype)):
                continue
            before = one.inputs[position].dtype
            follow = [k for k, other in enumerate(needs) if other.like == position and one.inputs[k].dtype is before]
            inputs = tuple(
                converted(tensor, dtype, one.op) if k == position or k in follow else tensor
                for k, tensor in enumerate(one.inputs)
            )
            yield Cell(one.op, names[position], dtype, inputs, one.reference)


def converted(tensor: Tensor, dtype: DType, op: Operator) -> Tensor:
    """Convert a tensor to a dtype.

    For integer dtypes, fractions are multiplied by 3 and rounded; for u8, negative elements become positive.
    """
    wanted = torch_dtype(dtype)
    if tensor.dtype is wanted:
        return tensor
    if dtype is DType.bool:
        return tensor > 0 if tensor.is_floating_point() else tensor % 2 > 0
    if not tensor.is_floating_point() or dtype.floating:
        return tensor.to(wanted)
    if op.name == "topk":  # the order of equal elements is undefined
        tensor = tensor.flatten().argsort().argsort().reshape(tensor.shape)
        return tensor.to(wanted)
    tensor = tensor if torch.equal(tensor, tensor.round()) else (tensor * 3).round()
    return (tensor.abs() if dtype is DType.u8 else tensor).to(wanted)


def together(many: Sequence[Cell]) -> tuple[Graph, dict[str, Tensor]]:
    """Graph of many cells, and its inputs; the results of cell k are `y{k}_0` and so on."""
    graph = Graph("cells")
    rewriter = Rewriter(graph)
    feeds: dict[str, Tensor] = {}
    tensors: dict[str, Tensor] = {}
    for k, cell in enumerate(many):
        named = {f"x{k}_{number}": tensor for number, tensor in enumerate(cell.inputs)}
        operands = [rewriter.input(name, type_of(tensor, {})) for name, tensor in named.items()]
        node = rewriter.add(cell.op, operands, name=f"layer{k}")
        for number, value in enumerate(node.results):
            rewriter.output(f"y{k}_{number}", value)
        feeds |= named
        tensors |= {f"layer{k}.{name}": tensor for name, tensor in cell.weights().items()}
    graph.tensors = Weights({name: ArrayTensor(from_torch(tensor)) for name, tensor in tensors.items()})
    return graph, feeds


def results_of(k: int, found: Mapping[str, Tensor]) -> list[Tensor]:
    """Results of cell k among the outputs of a graph from `together`."""
    return [tensor for name, tensor in found.items() if name.startswith(f"y{k}_")]


def _widest(tensor: Tensor) -> Tensor:
    if tensor.dtype is torch.bool:
        return tensor
    return tensor.double() if tensor.is_floating_point() else tensor.long()
