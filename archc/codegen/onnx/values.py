"""ONNX names of the values of a graph, given when a value is first used.

`dequantize` is lazy: its node is added when an operator first asks for the floats, so an operator with an integer form
leaves no dequantization in the model.
"""

from __future__ import annotations

from collections.abc import Callable

from archc.codegen.onnx.nodes import Record
from archc.codegen.onnx.onnx_graph import OnnxGraph
from archc.ir.graph import Node, Value
from archc.operator.spelling import Quantized
from archc.types.tensor_type import TensorType


class ValueNames:
    """Names of values: those that the user gave, else the path of the layer, else the operator's name.

    Args:
        onnx: the graph under construction.
        spell: adds the ONNX nodes of a node, and assigns the names of its results.
    """

    def __init__(self, onnx: OnnxGraph, spell: Callable[[Node], None]):
        self._onnx, self._spell = onnx, spell
        self._names: dict[Value, str] = {}
        self._outputs: dict[Value, str] = {}
        self._postponed: dict[Value, tuple[Node, list[Record]]] = {}  # with the list that receives the node

    def __getitem__(self, value: Value) -> str:
        """The name of a value; adds the node that computes it first if that was postponed."""
        if value not in self._names and value in self._postponed:
            node, records = self._postponed[value]
            with self._onnx.recording(records):
                self._spell(node)
        return self._names[value]

    def assign(self, value: Value, name: str, type: TensorType | None = None) -> str:
        """Give a value a name; an earlier type under that name is kept."""
        self._names[value] = name
        if type is not None:
            self._onnx.types.setdefault(name, type)
        return name

    def reserve(self, value: Value, output: str) -> None:
        """Reserve the name of a model output for the value that it is."""
        self._outputs.setdefault(value, output)

    def is_output(self, value: Value) -> bool:
        """Return whether a value must have the name of a model output."""
        return value in self._outputs

    def postpone(self, node: Node) -> None:
        """Add the node when one of its results is first used."""
        for value in node.results:
            self._postponed[value] = node, self._onnx.records

    def name_for(self, value: Value, node: Node) -> str:
        """Choose the name of a result of a node."""
        if value in self._outputs:
            return self._outputs[value]
        if value.name is not None:
            return self._onnx.fresh(node.scope.within(value.name))
        name = node.path or node.scope.within(node.op.name)
        return self._onnx.fresh(name if len(node.results) == 1 else f"{name}.{value.index}")

    def quantized(self, value: Value) -> Quantized | None:
        """See `OnnxSpelling.quantized`."""
        if value not in self._postponed:
            return None
        node, _ = self._postponed[value]
        if node.operands[1].type.rank:
            return None
        q, scale, zero_point = (self[operand] for operand in node.operands)
        static = scale in self._onnx.initializers and zero_point in self._onnx.initializers
        return Quantized(q, scale, zero_point, static)
