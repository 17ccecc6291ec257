"""Running a graph without compiling it: each node's own PyTorch spelling, one after the other.

This is what calibration, constant folding and the measured error of a pass run on.  It takes the inference
meaning of every operator, computes with decoded weights, and frees each value after its last use.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from archc.ir.dims import SymbolicDim, as_symbol, symbols
from archc.ir.dims import evaluate as evaluate_dim
from archc.ir.graph import Graph, Node, Value
from archc.ops.spelling import TorchSpelling

if TYPE_CHECKING:
    import numpy as np
    import torch


def evaluate(graph: Graph, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The outputs of a graph by name, for inputs by name; their shapes bind the symbolic sizes.

    Raises:
        KeyError: an input is missing.
        ValueError: an input's shape does not fit.
    """
    wanted = set(graph.outputs.values())
    found = {value: tensor for value, tensor in values(graph, inputs, wanted) if value in wanted}
    return {name: found[value] for name, value in graph.outputs.items()}


def values(
    graph: Graph, inputs: Mapping[str, torch.Tensor], keep: Collection[Value] = ()
) -> Iterator[tuple[Value, torch.Tensor]]:
    """Every value of a graph with its tensor, in the order in which they are computed.

    A consumer sees each tensor once; those that no later node needs are freed, unless they are to be kept.
    """
    import torch

    sizes = bind_sizes(graph, {name: tuple(tensor.shape) for name, tensor in inputs.items()})
    tensors: dict[Value, torch.Tensor] = {value: inputs[value.name or ""] for value in graph.inputs}
    nodes = graph.nodes()
    last: dict[Value, Node] = {value: node for node in nodes for value in node.operands}
    yield from tensors.items()
    with torch.no_grad():
        for node in nodes:
            weights = {path: _tensor(graph.weight_values(path)) for path in node.weights.values()}
            results = run_node(node, [tensors[value] for value in node.operands], weights, sizes)
            for value, tensor in zip(node.results, results, strict=True):
                tensors[value] = tensor
                yield value, tensor
            for value in (*node.operands, *node.results):
                if last.get(value, node) is node and value not in keep:
                    tensors.pop(value, None)


def run_node(
    node: Node, operands: list[torch.Tensor], weights: Mapping[str, torch.Tensor], sizes: Mapping[str, int]
) -> tuple[torch.Tensor, ...]:
    """The results of one node.

    Args:
        weights: decoded values by path, at least for the node's own.
        sizes: the value of every symbolic size.
    """
    inference = node.op.infer(node.types)
    spelling = TorchSpelling(
        operands=[f"operands[{position}]" for position in range(len(operands))],
        weights={name: f"weights[{path!r}]" for name, path in node.weights.items()},
        types=node.types,
        results=inference.results,
        sizes=inference.solution.extents,
        size_text=lambda dim: str(evaluate_dim(dim, sizes=sizes)),
        storages={},
    )
    result = _function(node.op.torch(spelling))(operands, weights)
    return tuple(result) if len(node.results) > 1 else (result,)


def _tensor(array: np.ndarray) -> torch.Tensor:
    """An array as a tensor.  Numpy has bf16 by way of another package, which PyTorch does not take from it."""
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view("int16").copy()).view(torch.bfloat16)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


@lru_cache(maxsize=4096)
def _function(expression: str) -> Callable[..., Any]:
    """A spelling as a function; the text comes from operators, with literals for all that a user wrote."""
    import torch
    from torch import nn
    from torch.nn import functional

    namespace = {"torch": torch, "nn": nn, "F": functional}
    return eval(f"lambda operands, weights: {expression}", namespace)  # type: ignore[no-any-return]


def bind_sizes(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The value of each symbolic size of the inputs, from the shapes of actual inputs.

    Raises:
        KeyError: an input is missing.
        ValueError: a shape has another rank, contradicts a known or bounded size, or another input.
    """
    sizes: dict[str, int] = {}
    pending: list[tuple[str, SymbolicDim, int]] = []
    for value in graph.inputs:
        name = value.name or ""
        shape = shapes[name]
        if len(shape) != value.type.rank:
            raise ValueError(f"input `{name}` must be {value.type}, and has the shape {list(shape)}")
        for dim, actual in zip(value.type.shape, shape):
            if isinstance(dim, int):
                if dim != actual:
                    raise ValueError(f"input `{name}` must be {value.type}, and has the shape {list(shape)}")
                continue
            symbol = as_symbol(dim)
            if symbol is None:
                pending.append((name, dim, actual))
                continue
            if sizes.setdefault(symbol.name, actual) != actual:
                raise ValueError(f"`{symbol.name}` is {sizes[symbol.name]} in one input and {actual} in `{name}`")
            if symbol.maximum is not None and actual > symbol.maximum:
                raise ValueError(f"`{symbol.name}` is at most {symbol.maximum}, and is {actual} in `{name}`")
    for name, dim, actual in pending:
        if all(symbol in sizes for symbol in symbols(dim)) and evaluate_dim(dim, sizes=sizes) != actual:
            raise ValueError(f"`{dim}` of input `{name}` must be {evaluate_dim(dim, sizes=sizes)}, and is {actual}")
    return sizes
