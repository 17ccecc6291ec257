"""Checks of one operator in PyTorch, ONNX Runtime and `onnx.reference`.

A test file lists its cases and parametrizes over them:

    CASES = [
        case(Conv2d(8, 3, stride=2), random(2, 3, 9, 9), nn.Conv2d(3, 8, 3, stride=2)),
        case(Add(), (random(2, 3), random(3)), torch.add),
    ]

    @pytest.mark.parametrize("one", CASES, ids=str)
    def test_operator(one: Case) -> None:
        one.check()

`case` adds the name of the operator to `COVERED`, with which `test_every_operator` finds operators without a case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from onnxruntime import InferenceSession

from archc.declaration.base import Operator
from archc.diagnostics import ArchcError
from archc.interpreter.evaluate import bind_sizes, evaluate
from archc.ir.graph import Graph
from archc.types.dims import evaluate as evaluate_dim
from tests.ops.comparison import as_tuple, close, to_tensors
from tests.ops.modules import Reference, call_reference, check_torch_module
from tests.ops.operands import Symbols, draw_weights, integers, one_node, random, symbolic_batch
from tests.ops.other_sizes import check_other_sizes
from tests.ops.runtimes import sessions

Tensor = torch.Tensor

COVERED: set[str] = set()
"""Names of the operators that have a case in a module imported so far."""


@dataclass(frozen=True, eq=False)
class Case:
    """An operator with inputs, weights and a reference; made by `case`."""

    op: Operator
    inputs: tuple[Tensor, ...]
    reference: Reference
    weights: Mapping[str, Tensor] | None
    rtol: float
    atol: float
    symbolic: Symbols
    onnx: bool
    onnx_reference: bool
    gradients: bool

    def check(self) -> None:
        """Run all checks; raises AssertionError."""
        check_operator(
            self.op,
            self.inputs,
            self.reference,
            weights=self.weights,
            rtol=self.rtol,
            atol=self.atol,
            symbolic=self.symbolic,
            onnx=self.onnx,
            onnx_reference=self.onnx_reference,
            gradients=self.gradients,
        )

    def __str__(self) -> str:
        return f"{self.op}-{'-'.join('x'.join(map(str, one.shape)) or 'scalar' for one in self.inputs)}"


def case(
    op: Operator,
    inputs: Tensor | Sequence[Tensor],
    reference: Reference,
    *,
    weights: Mapping[str, Tensor] | None = None,
    rtol: float = 1e-4,
    atol: float = 1e-5,
    symbolic: Symbols | None = None,
    onnx: bool = True,
    onnx_reference: bool = True,
    gradients: bool = True,
) -> Case:
    """Make a case and mark its operator as covered; the arguments are those of `check_operator`."""
    COVERED.add(op.name)
    tensors = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    symbols = symbolic_batch(tensors) if symbolic is None else symbolic
    return Case(op, tensors, reference, weights, rtol, atol, symbols, onnx, onnx_reference, gradients)


def check_operator(
    op: Operator,
    inputs: Sequence[Tensor],
    reference: Reference,
    *,
    weights: Mapping[str, Tensor] | None = None,
    rtol: float = 1e-4,
    atol: float = 1e-5,
    symbolic: Symbols | None = None,
    onnx: bool = True,
    onnx_reference: bool = True,
    gradients: bool = True,
) -> None:
    """Compare every way of running an operator with a reference.

    Args:
        weights: values of parameters, by name; the others are drawn from a fixed seed.
        symbolic: axes to make symbolic in a second run; by default those of `symbolic_batch`.  An empty sequence omits
            the second run.
        onnx: False if the operator has no ONNX form for these inputs; the emitter must then report it.
        onnx_reference: False if `onnx.reference` deviates from the ONNX standard.
        gradients: False for operators without a useful gradient.
    """
    symbols = symbolic_batch(inputs) if symbolic is None else symbolic
    values = draw_weights(op, inputs, weights or {})
    expected = as_tuple(call_reference(reference, inputs, values))
    check_torch_module(op, inputs, reference, values, rtol, atol, gradients)
    for axes in ([], symbols) if any(symbols) else ([],):
        graph = one_node(op, inputs, values, axes)
        check_types(graph, inputs, expected)
        feeds = {f"x{number}": tensor for number, tensor in enumerate(inputs)}
        close(tuple(evaluate(graph, feeds).values()), expected, rtol, atol, f"the torch spelling of {op}")
        ready: dict[str, InferenceSession] = {}
        if onnx:
            ready = check_onnx(graph, feeds, expected, rtol, atol, onnx_reference)
        else:
            check_has_no_onnx_form(graph)
        check_other_sizes(graph, inputs, axes, ready, rtol, atol)


def check_types(graph: Graph, inputs: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Compare the inferred types, with actual sizes for the symbols, with the types of the results."""
    sizes = bind_sizes(graph, {f"x{number}": tuple(tensor.shape) for number, tensor in enumerate(inputs)})
    inferred = [value.type for value in graph.outputs.values()]
    found = [(t.dtype.torch, tuple(evaluate_dim(dim, sizes=sizes) for dim in t.shape)) for t in inferred]
    assert found == [(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)) for tensor in expected]


def check_onnx(
    graph: Graph,
    feeds: Mapping[str, Tensor],
    expected: Sequence[Tensor],
    rtol: float,
    atol: float,
    reference: bool,
) -> dict[str, InferenceSession]:
    """Compare ONNX Runtime, at each optimization level, and `onnx.reference` with the expected results.

    Returns:
        The sessions of ONNX Runtime, by name.
    """
    from archc.codegen.onnx import to_model

    model = to_model(graph)
    onnx.checker.check_model(model, full_check=True)
    arrays = {name: tensor.numpy() for name, tensor in feeds.items()}
    ready = sessions(model)
    for runtime, session in ready.items():
        close(to_tensors(session.run(None, arrays)), expected, rtol, atol, runtime)
    if reference:
        close(to_tensors(ReferenceEvaluator(model).run(None, arrays)), expected, rtol, atol, "onnx.reference")
    return ready


def check_has_no_onnx_form(graph: Graph) -> None:
    """Check that the emitter rejects the graph because of the operator."""
    from archc.codegen.onnx import to_model

    with pytest.raises(ArchcError) as caught:
        to_model(graph)
    assert "no-onnx-form" in [diagnostic.code for diagnostic in caught.value.diagnostics]


__all__ = ["COVERED", "Case", "Tensor", "case", "check_operator", "integers", "one_node", "random"]
