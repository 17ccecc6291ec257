"""Constant folding: values that depend on no input and no weight are computed at compile time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archc.declaration.traits import IMPURE, INFERENCE_IDENTITY, AllEqual, Number
from archc.interpreter.evaluate import run_node
from archc.ir.graph import Graph, Node, Value
from archc.ops.create import Constant, Full
from archc.passmanager import Context
from archc.types.attributes import attributes
from archc.types.dims import SymbolicDim
from archc.weights.dtype_conversion import from_torch

from ._layers import LayerNames

if TYPE_CHECKING:
    import torch

LARGEST = 65_536
"""Maximum bytes of a stored value; a larger value would enlarge files to save a few microseconds."""


class ConstantFolder:
    """Evaluation of the constant values of a graph, and their replacement by stored tensors or `full`."""

    def __init__(self, graph: Graph):
        self._graph = graph
        self._tensors: dict[Value, torch.Tensor] = {}
        self._names: LayerNames | None = None

    def __contains__(self, value: Value) -> bool:
        return value in self._tensors

    def uniform(self, value: Value) -> Number | None:
        """Number that every element of a value equals, or None if no such number is known."""
        producer = value.producer
        if producer is not None and not producer.operands and not producer.weights:
            equal = producer.op.trait(AllEqual)
            if equal is not None:
                return equal.value(producer.op)
        tensor = self._tensors.get(value)
        return None if tensor is None else _uniform(tensor)

    def visit(self, node: Node) -> None:
        """Compute the results of a node if they are constants."""
        if node.weights or node.op.has(IMPURE) or node.op.has(INFERENCE_IDENTITY) or _symbolic(node):
            return
        if any(value not in self._tensors for value in node.operands):
            return
        import torch

        with torch.no_grad():
            tensors = run_node(node, [self._tensors[value] for value in node.operands], {}, {})
        self._tensors.update(zip(node.results, tensors, strict=True))

    def replace(self, context: Context, node: Node) -> None:
        """Replace the results of a constant node by stored tensors, or by `full` if all elements are equal."""
        for value in node.results:
            users = self._graph.consumers(value)
            if all(user.results[0] in self for user in users) and not self._graph.is_output(value):
                continue  # all consumers are constants and are replaced themselves
            tensor = self._tensors[value].contiguous()
            number = _uniform(tensor)
            shape = tuple(tensor.shape)
            size = tensor.numel() * tensor.element_size()
            if number is not None:
                made = context.rewriter.add(Full(shape, number, dtype=value.type.dtype), (), near=node)
            elif size > LARGEST:
                context.left(node, f"it is constant, but storing it would take {size:,} bytes", bytes=size)
                continue
            else:
                self._names = self._names or LayerNames(self._graph)
                name = self._names.free(node.scope, "constant")
                made = context.rewriter.add(Constant(shape, value.type.dtype), (), name=name, near=node)
                context.rewriter.set_weight(made.weights["value"], from_torch(tensor), evaluated=True)
            self._tensors[made.result] = tensor
            context.rewriter.replace_value(value, made.result)
            context.rewrote(node, f"constant folded: {made.op}", bytes=size)


def _symbolic(node: Node) -> bool:
    """Return whether a symbolic size occurs in the types or attributes of a node."""
    shapes = [value.type.shape for value in (*node.operands, *node.results)]
    values = [getattr(node.op, info.name) for info in attributes(type(node.op))]
    return any(map(_is_symbolic, [*shapes, *values]))


def _is_symbolic(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(map(_is_symbolic, value))
    return isinstance(value, SymbolicDim)


def _uniform(tensor: torch.Tensor) -> Number | None:
    """Number that all elements equal bitwise; None if they differ or are NaN, which has no literal."""
    import torch

    if not tensor.numel():
        return None
    first = tensor.reshape(-1)[0]
    if not bool((tensor == first).all()) or bool((torch.signbit(tensor) != torch.signbit(first)).any()):
        return None
    number: Number = first.item()
    return number
