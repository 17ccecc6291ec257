"""Interpreter: execution of a graph node by node, with the PyTorch spelling of each operator.

Calibration, constant folding and error measurements use it.  Operators run in inference mode with decoded weights.
Each value is freed after its last use.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from archc.declaration.operator_failure import OperatorFailure, operator_failure
from archc.declaration.spelling import TorchHelper, TorchSpelling
from archc.extension_failure import is_outside
from archc.ir.graph import Graph, Node, Value
from archc.ir.scans import Scan, schedule
from archc.ir.torch_spelling import node_spelling
from archc.types.dims import SymbolicDim, as_linear, as_symbol, symbols
from archc.types.dims import evaluate as evaluate_dim
from archc.weights.dtype_conversion import to_torch

if TYPE_CHECKING:
    import torch


def evaluate(graph: Graph, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Compute the outputs of a graph by name; the shapes of the inputs determine the symbolic sizes.

    Raises:
        KeyError: an input is missing.
        ValueError: the shape of an input does not fit.
        NodeFailure: PyTorch rejects the operands of a node.
    """
    wanted = set(graph.outputs.values())
    found = {value: tensor for value, tensor in evaluate_all(graph, inputs, wanted) if value in wanted}
    return {name: found[value] for name, value in graph.outputs.items()}


OPERAND_ERRORS = (RuntimeError, IndexError, ValueError)
"""Exceptions that PyTorch raises for operands with wrong values or sizes.

TypeError is not among them: PyTorch raises it for an argument of a wrong type, which is a bug in the operator.  PyTorch
also raises it for a size above `LARGEST_SIZE`, which `run_node` reports first.
"""
LARGEST_SIZE = 2**63 - 1
"""Largest size of an axis in PyTorch."""


class NodeFailure(RuntimeError):
    """Error of a node that cannot run on its operands.

    Attributes:
        node: the failed node.
        shapes: shapes of its operands.
        sizes: values of all symbolic sizes.
        reason: first line of PyTorch's message.
    """

    def __init__(self, node: Node, shapes: list[list[int]], sizes: Mapping[str, int], reason: str):
        super().__init__(f"{node.title} cannot run on {shapes}: {reason}")
        self.node, self.shapes, self.sizes, self.reason = node, shapes, sizes, reason


Change = Callable[[Value, "torch.Tensor"], "torch.Tensor"]
"""Function that replaces the tensor of a value."""


def _unchanged(value: Value, tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def evaluate_all(
    graph: Graph,
    inputs: Mapping[str, torch.Tensor],
    keep: Collection[Value] = (),
    change: Change = _unchanged,
    gradients: bool = False,
    rounds: bool = True,
) -> Iterator[tuple[Value, torch.Tensor]]:
    """Yield all values of a graph with their tensors, in the order of execution.

    Values in a scan are yielded in every step.  A tensor is freed after its last use.

    Args:
        keep: values whose tensors are not freed.
        change: replaces the tensor of each input and each result before its consumers run.
        gradients: True to record the operations for a backward pass.
        rounds: False to compute in floats where an operator rounds operands inside (`ROUNDS_OPERANDS`).
    """
    import torch

    sizes = bind_sizes(graph, {name: tuple(tensor.shape) for name, tensor in inputs.items()})
    tensors: dict[Value, torch.Tensor] = {value: change(value, inputs[value.name or ""]) for value in graph.inputs}
    items = schedule(graph)
    last = {value: item for item in items for value in item.operands}
    yield from tensors.items()
    for item in items:
        steps = run_item(graph, item, tensors, sizes, change, rounds)
        while True:
            # The mode is left before each `yield`, so that two evaluations can run in turns.
            with torch.set_grad_enabled(gradients):
                found = next(steps, None)
            if found is None:
                break
            yield found
        for value in values_of(item):
            if last.get(value, item) is item and value not in keep:
                tensors.pop(value, None)


def values_of(item: Node | Scan) -> set[Value]:
    """Operands and results of a node; all values of a scan."""
    nodes = item.nodes if isinstance(item, Scan) else (item,)
    return {value for node in nodes for value in (*node.operands, *node.results)}


def run_item(
    graph: Graph,
    item: Node | Scan,
    tensors: dict[Value, torch.Tensor],
    sizes: Mapping[str, int],
    change: Change = _unchanged,
    rounds: bool = True,
) -> Iterator[tuple[Value, torch.Tensor]]:
    """Run a node or a scan, and yield its values; the tensors of its results are added to `tensors`.

    Args:
        tensors: the tensors of the operands by value.
        sizes: values of all symbolic sizes.
    """
    if isinstance(item, Scan):
        yield from _steps(item, tensors, {node: _weights(graph, node) for node in item.nodes}, sizes, change, rounds)
    else:
        yield from _results(item, tensors, _weights(graph, item), sizes, change, rounds)


def _results(
    node: Node,
    tensors: dict[Value, torch.Tensor],
    weights: Mapping[str, torch.Tensor],
    sizes: Mapping[str, int],
    change: Change,
    rounds: bool,
) -> Iterator[tuple[Value, torch.Tensor]]:
    results = run_node(node, [tensors[value] for value in node.operands], weights, sizes, rounds)
    for value, tensor in zip(node.results, results, strict=True):
        tensors[value] = change(value, tensor)
        yield value, tensors[value]


def _steps(
    scan: Scan,
    tensors: dict[Value, torch.Tensor],
    weights: Mapping[Node, Mapping[str, torch.Tensor]],
    sizes: Mapping[str, int],
    change: Change,
    rounds: bool,
) -> Iterator[tuple[Value, torch.Tensor]]:
    """Yield the values of all steps of a scan, and then its results."""
    import torch

    sequences = [tensors[value] for value in scan.sequences]
    states = [tensors[value] for value in scan.first_states]
    kept: list[list[torch.Tensor]] = [[] for _ in scan.kept]
    if kept and not sequences[0].shape[1]:
        shapes = [list(sequence.shape) for sequence in sequences]
        raise NodeFailure(scan.enter, shapes, sizes, "PyTorch cannot stack the values of 0 steps")
    for step in range(sequences[0].shape[1]):
        items = [sequence[:, step] for sequence in sequences]
        entering = [torch.tensor(step), *items, *states]
        for value, tensor in zip(scan.enter.results, entering, strict=True):
            tensors[value] = change(value, tensor)
            yield value, tensors[value]
        for item in scan.body:
            if isinstance(item, Scan):
                yield from _steps(item, tensors, weights, sizes, change, rounds)
            else:
                yield from _results(item, tensors, weights[item], sizes, change, rounds)
        states = [tensors[value] for value in scan.next_states]
        for all_steps, value in zip(kept, scan.kept, strict=True):
            all_steps.append(tensors[value])
    leaving = [*states, *(torch.stack(all_steps, 1) for all_steps in kept)]
    for value, tensor in zip(scan.exit.results, leaving, strict=True):
        tensors[value] = change(value, tensor)
        yield value, tensors[value]


def run_node(
    node: Node,
    operands: list[torch.Tensor],
    weights: Mapping[str, torch.Tensor],
    sizes: Mapping[str, int],
    rounds: bool = True,
) -> tuple[torch.Tensor, ...]:
    """Compute the results of one node.

    Args:
        weights: decoded values of the node's weights by path.
        sizes: values of all symbolic sizes.
        rounds: see `evaluate_all`.

    Raises:
        NodeFailure: PyTorch rejects the operands.
        OperatorFailure: an operator from outside archc fails.
    """

    def failure(reason: str) -> NodeFailure:
        return NodeFailure(node, [list(operand.shape) for operand in operands], sizes, reason)

    def size_text(dim: SymbolicDim) -> str:
        size = evaluate_dim(dim, sizes=sizes)
        if size > LARGEST_SIZE:
            raise failure(f"the size {size:.1e} is too large for PyTorch")
        return str(size)

    spelling = node_spelling(
        node,
        [f"operands[{position}]" for position in range(len(operands))],
        lambda path: f"weights[{path!r}]",
        size_text,
        rounds,
    )
    expression = _expression(node, spelling)
    try:
        result = _function(expression, node.op.torch_helpers)(operands, weights)
    except OPERAND_ERRORS as refusal:
        raise failure((str(refusal).strip() or type(refusal).__name__).splitlines()[0]) from refusal
    except Exception as mistake:
        if not is_outside(type(node.op)):
            raise
        raise operator_failure(node.op, "torch", mistake, [f"the expression is `{expression}`"], node.span) from mistake
    results = tuple(result) if len(node.results) > 1 else (result,)
    if is_outside(type(node.op)):
        _check_types(node, results, sizes, expression)
    return results


def _check_types(node: Node, results: Sequence[Any], sizes: Mapping[str, int], expression: str) -> None:
    """Check the results of an operator from outside archc against its declaration.

    Raises:
        OperatorFailure: a result is no tensor, or has another dtype or shape.
    """
    for given, value in zip(results, node.results):
        dtype, shape = str(getattr(given, "dtype", None)), getattr(given, "shape", ())
        if dtype != f"torch.{value.type.dtype.torch}":
            way = (
                "`dtypes` declares the dtypes of the operands (`dtypes = FLOATS`), `result_dtypes` those of the results"
            )
        elif tuple(shape) != tuple(_size(dim, sizes, actual) for dim, actual in zip_longest(value.type.shape, shape)):
            way = "the shape of a result follows from `signature`"
        else:
            continue
        text = type(given).__name__ if dtype == "None" else f"{dtype.removeprefix('torch.')}{list(shape)}"
        raise OperatorFailure(
            node.op,
            f"`torch` of the operator `{node.op.name}` computes {text}, but the operator declares {value.type}",
            [f"the expression is `{expression}`", way],
            node.span,
        )


def _size(dim: int | SymbolicDim | None, sizes: Mapping[str, int], actual: int) -> int | None:
    """The declared size of an axis; the actual one if the declared size is unknown."""
    known = dim is None or isinstance(dim, int) or all(symbol in sizes for symbol in symbols(dim))
    return actual if not known else None if dim is None else evaluate_dim(dim, sizes=sizes)


def _expression(node: Node, spelling: TorchSpelling) -> str:
    """The PyTorch expression of a node.

    Raises:
        NodeFailure: a size in the expression is too large.
        OperatorFailure: the operator fails.
    """
    try:
        return node.op.torch(spelling)
    except OperatorFailure as failed:
        if isinstance(failed.__cause__, NodeFailure):
            raise failed.__cause__ from None
        raise failed.at(node.span) from failed.__cause__


def _weights(graph: Graph, node: Node) -> dict[str, torch.Tensor]:
    """Return the decoded weights of a node; they are not cached, to save memory."""
    return {path: to_torch(graph.weight_values(path)) for path in node.weights.values()}


@lru_cache(maxsize=4096)
def _function(expression: str, helpers: tuple[TorchHelper, ...] = ()) -> Callable[..., Any]:
    """Compile an operator's PyTorch expression to a function.

    `eval` is safe, because user input occurs only in literals of the expression.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    namespace = {"torch": torch, "nn": nn, "F": functional, **helper_namespace(helpers)}
    return eval(f"lambda operands, weights: {expression}", namespace)  # type: ignore[no-any-return]


def helper_namespace(helpers: Iterable[TorchHelper]) -> dict[str, Any]:
    """Return a namespace with operators' helper functions and the names that the functions import."""
    import torch
    from torch import nn

    namespace: dict[str, Any] = {"torch": torch, "nn": nn, "Tensor": torch.Tensor}
    for helper in helpers:
        imports = (name.rpartition(".") for name in helper.imports)
        lines = ["from __future__ import annotations", *(f"from {module} import {name}" for module, _, name in imports)]
        exec("\n".join([*lines, helper.source]), namespace)
    return namespace


def bind_sizes(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Compute the values of the symbolic sizes of a graph's inputs from the shapes of actual inputs.

    Raises:
        KeyError: an input is missing.
        ValueError: a shape has a wrong rank, or contradicts a known size, a bound or another input.
    """
    sizes: dict[str, int] = {}
    pending: list[tuple[str, SymbolicDim, int]] = []
    for value in graph.inputs:
        name = value.name or ""
        shape = shapes[name]
        if len(shape) != value.type.rank:
            raise ValueError(f"input `{name}` must be {value.type}, got the shape {list(shape)}")
        for dim, actual in zip(value.type.shape, shape):
            if isinstance(dim, int):
                if dim != actual:
                    raise ValueError(f"input `{name}` must be {value.type}, got the shape {list(shape)}")
                continue
            symbol = as_symbol(dim)
            if symbol is None:
                pending.append((name, dim, actual))
                continue
            if sizes.setdefault(symbol.name, actual) != actual:
                raise ValueError(f"`{symbol.name}` is {sizes[symbol.name]} in one input and {actual} in `{name}`")
            if symbol.maximum is not None and actual > symbol.maximum:
                raise ValueError(f"`{symbol.name}` must be at most {symbol.maximum}, got {actual} in `{name}`")
    for name, dim, actual in pending:
        part = as_linear(dim)
        if part is not None:  # if the division has a remainder, the comparison below fails
            symbol, factor, offset = part
            size = sizes.setdefault(symbol.name, (actual - offset) // factor)
            if size < 0:
                raise ValueError(f"`{dim}` of input `{name}` must be at least {offset}, got {actual}")
            if symbol.maximum is not None and size > symbol.maximum:
                most = evaluate_dim(dim, sizes={symbol.name: symbol.maximum})
                raise ValueError(f"`{dim}` of input `{name}` must be at most {most}, got {actual}")
        if all(symbol in sizes for symbol in symbols(dim)) and evaluate_dim(dim, sizes=sizes) != actual:
            raise ValueError(f"`{dim}` of input `{name}` must be {evaluate_dim(dim, sizes=sizes)}, got {actual}")
    return sizes
