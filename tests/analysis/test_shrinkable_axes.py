"""Shrinkable axes of operators, tested on every case of every operator.

A test removes a group of elements from the operands and the weights, and gives the operator the new sizes.  The
expected results come from the original operator: the elements of the group are zero in its operands and weights, and
are removed from its results.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archc.analysis.coupling import ChannelGroup, Coupling
from archc.analysis.shrinkable_axes import ShrinkableAxes, Tensor
from archc.declaration.base import Operator, operator
from archc.declaration.spelling import TorchSpelling, infix, method
from archc.declaration.traits import Rigid
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph, Node
from archc.ir.rewriter import Rewriter
from archc.types.tensor_type import DType, TensorType
from archc.weights.tensor import ArrayTensor, Weights
from tests.ops.every_case import every_case
from tests.ops.harness import Case

CASES = [one for one in every_case() if one.inputs]
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


@pytest.fixture
def free_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the axes of inputs and outputs shrinkable."""
    monkeypatch.setattr(ShrinkableAxes, "_fix_inputs_and_outputs", lambda self: None)


def check_removals(op: Operator, inputs: list[np.ndarray]) -> None:
    """Remove each of the first groups of an operator, and compare the results with those of zeros.

    Raises:
        AssertionError: a result differs; the message names the operator, the indices and the result.
    """
    graph = build(op, inputs, None)
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
        changed = node.op.with_extents(node.types, coupling.extents(node, {group.number}))
        expected = [
            taken(coupling, value, array, group.number, False)
            for value, array in zip(node.results, results(build(node.op, zeroed, masked), zeroed))
        ]
        got = results(build(changed, fewer, kept), fewer)
        for number, (left, right) in enumerate(zip(got, expected, strict=True)):
            np.testing.assert_allclose(
                left, right, rtol=1e-4, atol=1e-5, err_msg=missing_declaration(node, group, number)
            )


def missing_declaration(node: Node, group: ChannelGroup, number: int) -> str:
    """Words for a result that differs after the removal of a group."""
    names = [name for _, name in group.index_counts]
    indices = " and ".join(f"`{name}`" for name in names)
    result = node.op.signature_for(node.types).results[number].name
    rigid = ", ".join(f'"{name}"' for name in names)
    return (
        f"`{node.op}` allows the removal of elements of the index {indices}, but the rest of the result `{result}`"
        f" then differs from the result for zeros in their place. If each element of `{result}` depends on all elements"
        f" of the index, add `Rigid({rigid})` to the traits of the class `{type(node.op).__name__}`, or"
        " `Rigid(axis=...)` if an attribute selects the axis."
    )


@pytest.mark.usefixtures("free_ends")
@pytest.mark.parametrize("one", CASES, ids=str)
def test_results_equal_those_with_zeros(one: Case) -> None:
    torch.manual_seed(0)
    check_removals(one.op, [tensor.numpy() for tensor in one.inputs])


@operator
class Center(Operator, abstract=True):
    """Deviation from the mean of the last axis, without the declaration that its index is rigid."""

    signature = "x[*b, d] -> y[*b, d]"

    def torch(self, spell: TorchSpelling) -> str:
        x = spell.operands[0]
        return infix(x, "-", method(x, "mean", -1, keepdim=True))


@operator
class RigidCenter(Center, abstract=True):
    """The same operator with the declaration."""

    traits = (Rigid("d"),)


@pytest.mark.usefixtures("free_ends")
def test_a_missing_declaration_is_named() -> None:
    matrix = np.random.default_rng(0).uniform(0.5, 1.5, (2, 3)).astype(np.float32)
    check_removals(RigidCenter(), [matrix])
    with pytest.raises(AssertionError) as caught:
        check_removals(Center(), [matrix])
    message = str(caught.value)
    assert "`center` allows the removal of elements of the index `d`, but the rest of the result `y`" in message
    assert 'add `Rigid("d")` to the traits of the class `Center`' in message


@pytest.mark.usefixtures("free_ends")
def test_nearly_all_operators_have_a_removable_group() -> None:
    tried = {one.op.name for one in CASES if removable(Coupling(build(one.op, [x.numpy() for x in one.inputs], None)))}
    # These operators look up elements by index, or combine all elements of an axis.
    assert {one.op.name for one in CASES} - tried <= {"argmax", "argmin", "gather", "norm", "scatter"}
