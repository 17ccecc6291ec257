"""An ONNX graph under construction: its protobuf message, names, initializers and nodes.

At the end, nodes are written into the message directly: `onnx.helper.make_node` takes four times as long, which matters
at 100,000 nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto

from archc.codegen.onnx.initializers import Initializers, UniqueNames, onnx_dtype, raw_bytes
from archc.codegen.onnx.nodes import OnnxNode, OnnxNodes
from archc.codegen.onnx.scoped_names import ScopedNames
from archc.ir.graph import Graph
from archc.types.storage import Weight
from archc.types.tensor_type import DType, TensorType
from archc.weights.dtype_conversion import name_of_numpy
from archc.weights.tensor import Weights


class OnnxGraph:
    """An ONNX graph under construction; the emitters of operators, weights and scans add nodes to it.

    Args:
        graph: the graph that is emitted; its tensors must be bound.
        proto: an empty message, which is filled.
        owns_weights: True if the model contains its weights, or has a data file of its own for them.  It may then
            store a weight in another layout, such as transposed.  False if the model refers to the weights file, which
            other programs also read.
        contributed: see `OnnxSpelling.contributed`.

    Attributes:
        names: names of values and initializers in use.
        scoped: names that show the blocks.
        types: types of values by ONNX name; intermediate values of an operator have no entry.
        nodes: the nodes to which new nodes are added, of the graph or of the body of a scan.
        domains: domains of the operators used.
    """

    def __init__(self, graph: Graph, proto: onnx.GraphProto, owns_weights: bool, contributed: bool = True):
        self.graph, self.proto, self.owns_weights, self.contributed = graph, proto, owns_weights, contributed
        self.proto.name = graph.name
        self.domains: set[str] = set()
        inputs = [value.name or "" for value in graph.inputs]
        stored = [path for weight in graph.weights.values() for path in weight.tensors]
        self.scoped = ScopedNames()
        self.names = UniqueNames([*inputs, *graph.outputs, *stored])
        self.initializers = Initializers(proto, self.names)
        self.types: dict[str, TensorType] = {}
        self.nodes = self._outermost = OnnxNodes(self.initializers.dtype_of)
        self._node_names = UniqueNames()

    @property
    def tensors(self) -> Weights:
        """The bound weights."""
        tensors = self.graph.tensors
        assert tensors is not None, "the emitter checks that weights are bound"
        return tensors

    @contextmanager
    def within(self, nodes: OnnxNodes) -> Iterator[None]:
        """Add new nodes to other nodes for the duration of the context."""
        around, self.nodes = self.nodes, nodes
        try:
            yield
        finally:
            self.nodes = around

    def body(self) -> OnnxNodes:
        """The nodes of the body of a scan, without any node."""
        return OnnxNodes(self.initializers.dtype_of)

    def fresh(self, name: str) -> str:
        """Return an unused name for a value, and mark it as used."""
        return self.names.unique(name)

    def node_name(self, name: str) -> str:
        """Return an unused name for a node, and mark it as used."""
        return self._node_names.unique(name)

    def stored(self, path: str) -> tuple[str, ...]:
        """Names of the stored tensors of a weight."""
        return self.stored_parts(self.graph.weights[path])

    def stored_parts(self, weight: Weight) -> tuple[str, ...]:
        """Names of the stored tensors of a weight of the graph, or of a part of it, such as a factor."""
        return tuple(self.initializers.stored(name, self.tensors[name]) for name in weight.tensors)

    def derived(self, name: str, array: np.ndarray[Any, Any]) -> str:
        """Add an initializer computed from stored weights, and return its name."""
        return self.initializers.derived(self.names.unique(name), array)

    def constant(self, value: Any, dtype: DType | None = None) -> str:
        """The name of a constant; see `OnnxSpelling.constant`."""
        return self.initializers.constant(value, dtype)

    def shared(self, name: str, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node to the outermost graph, and return the name of its result.

        Every later node can use the result, including nodes in the bodies of scans.  Each call adds a node: the caller
        keeps the name, so that one node serves all uses.
        """
        unique = self.names.unique(name)
        self._outermost.append(self._outermost.new(op_type, inputs, [unique], attributes))
        return unique

    def copy(self, source: str, name: str) -> None:
        """Add an `Identity`, for a value that needs two names."""
        self.nodes.append(self.nodes.new("Identity", [source], [name], name=self.node_name(name)))

    def declare(self, info: onnx.ValueInfoProto, name: str, type: TensorType) -> None:
        """Fill in the name and type of an input or output of a graph."""
        info.name = name
        tensor = info.type.tensor_type
        tensor.elem_type = onnx_dtype(type.dtype)
        tensor.shape.SetInParent()  # without this call, the rank of a scalar would be unknown
        for dim in type.shape:
            if isinstance(dim, int):
                tensor.shape.dim.add(dim_value=dim)
            else:
                tensor.shape.dim.add(dim_param=str(dim))

    def write(self, proto: onnx.GraphProto, nodes: Iterable[OnnxNode]) -> None:
        """Write nodes into the message of the graph or of the body of a scan."""
        for node in nodes:
            self.domains.add(node.domain)
            write(proto.node.add(), node)


def write(proto: onnx.NodeProto, node: OnnxNode) -> None:
    """Fill an empty `NodeProto`; omit attributes that are None, and absent optional operands at the end."""
    names = ["" if operand is None else operand.name for operand in node.operands]
    while names and not names[-1]:
        names.pop()
    proto.input.extend(names)
    proto.output.extend(result.name for result in node.results)
    proto.name = node.name
    proto.op_type = node.kind
    if node.domain:
        proto.domain = node.domain
    for key, value in sorted(node.attributes.items()):
        if value is not None:
            proto.attribute.append(_attribute(key, value))


def _attribute(name: str, value: Any) -> AttributeProto:
    if isinstance(value, np.ndarray):
        return _tensor_attribute(name, value)
    if isinstance(value, onnx.GraphProto):
        return AttributeProto(name=name, type=AttributeProto.GRAPH, g=value)
    if isinstance(value, (list, tuple)):
        return _list_attribute(name, tuple(value), any(isinstance(item, float) for item in value))
    return _scalar_attribute(name, value, type(value).__name__)


# `kind` is the type of the value: without it `True`, `1` and `1.0`, which are equal, would share a cache entry.
@lru_cache(maxsize=4096)
def _scalar_attribute(name: str, value: Any, kind: str) -> AttributeProto:
    if isinstance(value, DType):
        return AttributeProto(name=name, type=AttributeProto.INT, i=onnx_dtype(value))
    if isinstance(value, (bool, int)):
        return AttributeProto(name=name, type=AttributeProto.INT, i=int(value))
    if isinstance(value, float):
        return AttributeProto(name=name, type=AttributeProto.FLOAT, f=value)
    if isinstance(value, str):
        return AttributeProto(name=name, type=AttributeProto.STRING, s=value.encode())
    raise TypeError(f"ONNX has no attribute type for `{name} = {value!r}`")


@lru_cache(maxsize=4096)
def _list_attribute(name: str, values: tuple[Any, ...], floating: bool) -> AttributeProto:
    if floating:
        return AttributeProto(name=name, type=AttributeProto.FLOATS, floats=values)
    if all(isinstance(value, str) for value in values) and values:
        return AttributeProto(name=name, type=AttributeProto.STRINGS, strings=[value.encode() for value in values])
    return AttributeProto(name=name, type=AttributeProto.INTS, ints=[int(value) for value in values])


def _tensor_attribute(name: str, array: np.ndarray[Any, Any]) -> AttributeProto:
    dtype = name_of_numpy(array.dtype)
    if dtype is None:
        raise TypeError(f"ONNX has no attribute type for `{name} = {array!r}`")
    attribute = AttributeProto(name=name, type=AttributeProto.TENSOR)
    attribute.t.data_type = onnx_dtype(DType(dtype))
    attribute.t.dims.extend(array.shape)
    attribute.t.raw_data = raw_bytes(array)
    return attribute
