"""What every operator is held to: one case, checked through every way of running it.

A test file lists its cases and parametrizes over them:

    CASES = [
        case(Conv2d(8, 3, stride=2), random(2, 3, 9, 9), nn.Conv2d(3, 8, 3, stride=2)),
        case(Add(), (random(2, 3), random(3)), torch.add),
    ]

    @pytest.mark.parametrize("one", CASES, ids=str)
    def test_operator(one: Case) -> None:
        one.check()

`case` also enters the operator's name into `COVERED`, from which `test_every_operator` knows who has no case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn
from torch.nn import functional

from archc.diagnostics import ArchcError
from archc.ir.dims import evaluate as evaluate_dim
from archc.ir.dims import symbol
from archc.ir.graph import Graph
from archc.ir.rewriter import Rewriter
from archc.ir.types import DType, TensorType
from archc.ir.verifier import verify
from archc.ops.evaluate import bind_sizes, evaluate
from archc.ops.operator import Operator
from archc.ops.spelling import TorchModule, TorchSpelling
from archc.weights.store import Weights
from archc.weights.tensor import ArrayTensor

Tensor = torch.Tensor
Reference = Callable[..., Any]
"""What the operator must equal: a `torch.nn` module with parameters of the same names, or a function.

A function is called with the inputs by position and the weights by name.
"""
Symbols = Sequence[Mapping[int, str]]
"""For each input, the axes whose sizes are symbolic, with the symbols' names."""

COVERED: set[str] = set()
"""The names of the operators that have a case in a module imported so far."""


@dataclass(frozen=True, eq=False)
class Case:
    """An operator with inputs, weights and what it must equal; made by `case`."""

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
        """Check everything; raises AssertionError."""
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
    """A case, entered as covering its operator; the arguments are those of `check_operator`."""
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
        weights: values for parameters, by name; the others are drawn from a fixed seed.
        symbolic: axes to repeat the check with symbolic sizes on; by default the first axes of the inputs that are
            as long as the first input's.  An empty sequence leaves the repetition out.
        onnx: False where the operator has no ONNX form for these inputs; then it must say so.
        onnx_reference: False where `onnx.reference` itself computes something else than the ONNX standard says.
        gradients: False for what has no useful gradient.
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
        if onnx:
            check_onnx(graph, feeds, expected, rtol, atol, onnx_reference)
        else:
            check_has_no_onnx_form(graph)


# Making cases ---------------------------------------------------------------------------------------------


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normally distributed numbers, the same on every run."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def integers(*shape: int, below: int, seed: int = 0, dtype: torch.dtype = torch.int64) -> Tensor:
    """Integers from 0 to `below` - 1, the same on every run."""
    return torch.randint(0, below, shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def symbolic_batch(inputs: Sequence[Tensor]) -> Symbols:
    """`N` for the first axis of every input where it is as long as that of the first."""
    if not inputs or inputs[0].dim() < 2:
        return [{} for _ in inputs]
    size = inputs[0].shape[0]
    # An axis that broadcasts against a shorter operand stays a number: `N` would not be known to equal it.
    rank = inputs[0].dim()
    return [{0: "N"} if tensor.dim() == rank and tensor.shape[0] == size else {} for tensor in inputs]


def one_node(op: Operator, inputs: Sequence[Tensor], weights: Mapping[str, Tensor], symbolic: Symbols = ()) -> Graph:
    """A graph of inputs `x0`, `x1`, …, the operator as layer `layer`, and outputs `y0`, `y1`, …"""
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
    """Values for all parameters of an operator that differ from what a fresh layer has."""
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


# Ways of running ------------------------------------------------------------------------------------------


def call_reference(reference: Reference, inputs: Sequence[Tensor], weights: Mapping[str, Tensor]) -> Any:
    """The reference in its inference meaning."""
    if isinstance(reference, nn.Module):
        return torch.func.functional_call(reference.eval(), dict(weights), tuple(inputs))
    return reference(*inputs, **weights)


def build_module(op: Operator, inputs: Sequence[Tensor]) -> nn.Module | None:
    """The module that the operator spells, built from its text as generated code would build it."""
    types = [type_of(tensor, {}) for tensor in inputs]
    inference = op.infer(types)
    spelling = TorchSpelling(
        operands=[f"x{number}" for number in range(len(inputs))],
        weights={name: f"self.{name}" for name in inference.parameters},
        types=types,
        results=inference.results,
        sizes=inference.solution.extents,
        size_text=str,
        storages={},
    )
    spelled = op.torch_module(spelling)
    if spelled is None:
        return None
    assert isinstance(spelled, TorchModule)
    module = eval(str(spelled), {"nn": nn, "torch": torch, "F": functional})
    assert isinstance(module, nn.Module)
    return module if spelled.use is None else called_as_spelled(module, spelled, len(inputs))


def called_as_spelled(module: nn.Module, spelled: TorchModule, count: int) -> nn.Module:
    """A module whose call is what generated code would write, with the results unpacked."""
    assert spelled.use is not None
    text = spelled.use("forward", [f"operands[{number}]" for number in range(count)])
    forward = module.forward
    module.forward = lambda *operands: eval(text, {"forward": forward, "operands": operands})
    if spelled.unpack:
        names = [f"result{number}" for number in range(spelled.unpack.count("{}"))]
        code = f"def unpack(results):\n    {spelled.unpack.format(*names)} = results\n    return {', '.join(names)}"
        namespace: dict[str, Any] = {}
        exec(code, namespace)
        nested = module.forward
        module.forward = lambda *operands: namespace["unpack"](nested(*operands))
    return module


def check_torch_module(
    op: Operator,
    inputs: Sequence[Tensor],
    reference: Reference,
    weights: Mapping[str, Tensor],
    rtol: float,
    atol: float,
    gradients: bool,
) -> None:
    """The module has the operator's parameters, computes the same forward and backward, and trains alike."""
    module = build_module(op, inputs)
    parameters = op.infer([type_of(tensor, {}) for tensor in inputs]).parameters
    if module is None:
        return
    state = {name: (str(tensor.dtype), tuple(tensor.shape)) for name, tensor in module.state_dict().items()}
    assert state == {name: (f"torch.{type.dtype.torch}", type.shape) for name, type in parameters.items()}
    trainable = [name for name, _ in module.named_parameters()]
    assert trainable == [name for name in parameters if op.parameters[name].trainable]
    expected = as_tuple(call_reference(reference, inputs, weights))
    got = as_tuple(torch.func.functional_call(module.eval(), dict(weights), tuple(inputs)))
    close(got, expected, rtol, atol, f"the module of {op}")
    if gradients:
        ours = gradients_of(module.eval(), inputs, weights, trainable)
        theirs = gradients_of(reference, inputs, weights, trainable)
        close(ours, theirs, rtol, atol, f"the gradients of {op}")
    if isinstance(reference, nn.Module):
        check_training(module, reference, inputs, weights, rtol, atol)


def gradients_of(
    function: Reference, inputs: Sequence[Tensor], weights: Mapping[str, Tensor], trainable: Sequence[str]
) -> tuple[Tensor, ...]:
    """The gradients of a random combination of the results, by the floating inputs and the trainable weights."""
    leaves = [tensor.clone().requires_grad_(tensor.is_floating_point()) for tensor in inputs]
    values = {name: tensor.clone().requires_grad_(name in trainable) for name, tensor in weights.items()}
    results = as_tuple(call_reference(function, leaves, values))
    total = sum((result * random(*result.shape, seed=7)).sum() for result in results if result.requires_grad)
    wanted = [tensor for tensor in (*leaves, *values.values()) if tensor.requires_grad]
    return torch.autograd.grad(total, wanted)  # type: ignore[arg-type]  # `sum` might give 0


def check_training(
    ours: nn.Module,
    theirs: nn.Module,
    inputs: Sequence[Tensor],
    weights: Mapping[str, Tensor],
    rtol: float,
    atol: float,
) -> None:
    """With one seed, both give the same in `train()` and leave the same buffers behind."""
    outcomes = []
    for module in (ours, theirs):
        module.load_state_dict(weights)
        module.train()
        torch.manual_seed(3)
        with torch.no_grad():
            outcomes.append((*as_tuple(module(*inputs)), *(buffer.clone() for buffer in module.buffers())))
    close(outcomes[0], outcomes[1], rtol, atol, "the module in training")


def check_types(graph: Graph, inputs: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """The inferred types, with the symbols replaced by the actual sizes, are those of the results."""
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
) -> None:
    """ONNX Runtime and `onnx.reference` compute the expected results from the emitted model."""
    from archc.codegen.onnx import to_model

    model = to_model(graph)
    onnx.checker.check_model(model, full_check=True)
    arrays = {name: tensor.numpy() for name, tensor in feeds.items()}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    close(to_tensors(session.run(None, arrays)), expected, rtol, atol, "ONNX Runtime")
    if reference:
        close(to_tensors(ReferenceEvaluator(model).run(None, arrays)), expected, rtol, atol, "onnx.reference")


def check_has_no_onnx_form(graph: Graph) -> None:
    """The emitter refuses the graph because of the operator."""
    from archc.codegen.onnx import to_model

    with pytest.raises(ArchcError) as caught:
        to_model(graph)
    assert "no-onnx-form" in [diagnostic.code for diagnostic in caught.value.diagnostics]


# Comparing ------------------------------------------------------------------------------------------------


def close(got: Sequence[Tensor], expected: Sequence[Tensor], rtol: float, atol: float, what: str) -> None:
    """Equal in number, shape, dtype, and value up to the tolerance."""
    assert len(got) == len(expected), f"{what} gives {len(got)} results, not {len(expected)}"
    for number, (one, other) in enumerate(zip(got, expected)):
        torch.testing.assert_close(
            one,
            other,
            rtol=rtol,
            atol=atol,
            equal_nan=True,
            msg=lambda text: f"{what}, result {number}: {text}",  # noqa: B023
        )


def as_tuple(results: Any) -> tuple[Tensor, ...]:
    """The results of a call, be it one tensor or several."""
    return tuple(results) if isinstance(results, (tuple, list)) else (results,)


def to_tensors(arrays: Any) -> tuple[Tensor, ...]:
    """NumPy results as tensors; scalars may come as numbers."""
    return tuple(torch.as_tensor(array) for array in arrays)
