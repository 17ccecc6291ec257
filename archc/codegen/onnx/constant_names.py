"""Names of constants by their use: `axes/[1]`, `shape/[-1,512]`, or `constant/2.0` for other uses.

The use of a constant is the name of the operand in the declaration of the ONNX operator.  Equal constants with the same
use are one initializer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cache

import onnx
from onnx import AttributeProto
from onnx.defs import OpSchema

from archc.codegen.onnx.initializers import CONSTANT, Initializers, UniqueNames

_NAMES = (
    *("axes", "axis", "condition", "delta", "depth", "ends", "indices", "initial_c", "initial_h", "k", "limit", "max"),
    *("min", "pads", "repeats", "scale", "scales", "sequence_lens", "shape", "sizes", "slope", "split", "start"),
    *("starts", "steps", "updates", "values"),
)
_USES = {
    **{name: name for name in _NAMES},
    **dict.fromkeys(("Scale", "x_scale", "y_scale"), "scale"),
    **dict.fromkeys(("x_zero_point", "y_zero_point", "a_zero_point", "b_zero_point"), "zero_point"),
    "K": "k",
    "input_mean": "mean",
    "input_var": "variance",
}
"""Uses by the names of operands in ONNX, without names such as `A`, `X` and `data`."""


def name_constants(graph: onnx.GraphProto, initializers: Initializers, names: UniqueNames, opset: int) -> None:
    """Rename the constants of a graph, in its initializers, its nodes and the bodies of its nodes."""
    places: dict[str, dict[str, list[tuple[onnx.NodeProto, int]]]] = defaultdict(lambda: defaultdict(list))
    for node in _nodes(graph):
        for position, name in enumerate(node.input):
            if name in initializers.constants:
                places[name][_use(node.domain, node.op_type, position, opset)].append((node, position))
    for name, (tensor, text) in initializers.constants.items():
        for number, (use, operands) in enumerate(places[name].items()):
            named = tensor if number == 0 else _copy(tensor, graph)
            named.name = name if use == CONSTANT else names.unique(f"{use}/{text}")
            for node, position in operands:
                node.input[position] = named.name


def _copy(tensor: onnx.TensorProto, graph: onnx.GraphProto) -> onnx.TensorProto:
    copy: onnx.TensorProto = graph.initializer.add()
    copy.CopyFrom(tensor)
    return copy


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of the bodies in it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


@cache
def _use(domain: str, op_type: str, position: int, opset: int) -> str:
    """The use of a constant that is an operand of an operator."""
    if domain:
        return CONSTANT
    operands = onnx.defs.get_schema(op_type, opset).inputs
    operand = operands[min(position, len(operands) - 1)]
    assert position < len(operands) or operand.option == OpSchema.FormalParameterOption.Variadic
    return _USES.get(operand.name, CONSTANT)
