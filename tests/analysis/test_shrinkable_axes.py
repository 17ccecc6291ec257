"""Shrinkable axes of operators, tested on every case of every operator.

A test removes a group of elements from the operands and the weights, and gives the operator the new sizes.  The
expected results come from the original operator: the elements of the group are zero in its operands and weights, and
are removed from its results.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from archc.analysis.coupling import ChannelGroup, Coupling
from archc.analysis.shrinkable_axes import ShrinkableAxes, Tensor
from archc.declaration.base import Operator
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from archc.ir.rewriter import Rewriter
from archc.types.tensor_type import DType, TensorType
from archc.weights.tensor import ArrayTensor, Weights
from tests.ops.harness import Case

MODULES = [import_module(f"tests.ops.{path.stem}") for path in sorted(Path(__file__).parents[1].glob("ops/test_*.py"))]
CASES = [
    one
    for module in MODULES
    for found in vars(module).values()
    if isinstance(found, list)
    for one in found
    if isinstance(one, Case) and one.inputs
]
DTYPES = {getattr(torch, dtype.torch): dtype for dtype in DType}


def build(op: Operator, inputs: list[np.ndarray], weights: dict[str, np.ndarray] | None) -> Graph:
    """A graph of one operator, with random weights by default."""
    graph = Graph("one")
    rewriter = Rewriter(graph)
    values = [
        rewriter.input(f"x{number}", TensorType(DTYPES[torch.from_numpy(array).dtype], array.shape))
        for number, array in enumerate(inputs)
    ]
    node = rewriter.add(op, values, name="op")
    for number, value in enumerate(node.results):
        rewriter.output(f"y{number}", value)
    generator = np.random.default_rng(0)
    graph.tensors = Weights()
    for path, weight in graph.weights.items():
        drawn = generator.uniform(0.5, 1.5, weight.shape)
        array = weights[path] if weights is not None else np.asarray(drawn, weight.dtype.torch)
        graph.tensors.set(path, ArrayTensor(array.copy()))
    return graph


def results(graph: Graph, inputs: list[np.ndarray]) -> list[np.ndarray]:
    given = {f"x{number}": torch.from_numpy(array.copy()) for number, array in enumerate(inputs)}
    return [tensor.numpy() for tensor in evaluate(graph, given).values()]


def taken(coupling: Coupling, tensor: Tensor, array: np.ndarray, number: int, zero: bool) -> np.ndarray:
    """An array without the elements of a group, or with zeros in their place.

    Integers may be indices, so they are not set to zero.
    """
    kept = [
        np.arange(size) if (tensor, axis) in coupling.shrinkable.fixed_axes else coupling.kept((tensor, axis), {number})
        for axis, size in enumerate(array.shape)
    ]
    if not zero:
        return array[np.ix_(*kept)] if kept else array
    if not kept or not np.issubdtype(array.dtype, np.floating):
        return array
    left = np.zeros_like(array)
    left[np.ix_(*kept)] = array[np.ix_(*kept)]
    return left


def removable(coupling: Coupling) -> list[ChannelGroup]:
    """The removable groups that leave at least one element of each index."""
    free = [group for group in coupling.groups if group.reason is None]
    return [group for group in free if all(n < coupling.sizes[spot] for spot, n in group.index_counts.items())]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_results_equal_those_with_zeros(one: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ShrinkableAxes, "_fix_inputs_and_outputs", lambda self: None)
    torch.manual_seed(0)
    inputs = [tensor.numpy() for tensor in one.inputs]
    graph = build(one.op, inputs, None)
    (node,) = graph.nodes()
    coupling = Coupling(graph)
    for group in removable(coupling)[:6]:
        zeroed, fewer = (
            [taken(coupling, value, array, group.number, zero) for value, array in zip(graph.inputs, inputs)]
            for zero in (True, False)
        )
        weights = {path: graph.weight_values(path) for path in graph.weights}
        masked, kept = (
            {path: taken(coupling, path, array, group.number, zero) for path, array in weights.items()}
            for zero in (True, False)
        )
        op = node.op.with_extents(node.types, coupling.extents(node, {group.number}))
        expected = [
            taken(coupling, value, array, group.number, False)
            for value, array in zip(node.results, results(build(node.op, zeroed, masked), zeroed))
        ]
        for left, right in zip(results(build(op, fewer, kept), fewer), expected, strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


def test_nearly_all_operators_have_a_removable_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ShrinkableAxes, "_fix_inputs_and_outputs", lambda self: None)
    tried = {one.op.name for one in CASES if removable(Coupling(build(one.op, [x.numpy() for x in one.inputs], None)))}
    # These operators look up elements by index, or combine all elements of an axis.
    assert {one.op.name for one in CASES} - tried <= {"argmax", "argmin", "gather", "norm", "scatter"}
