"""An ONNX graph under construction: its protobuf message, names, initializers and nodes.

Nodes are written into the message directly: `onnx.helper.make_node` takes four times as long, which matters at 100,000
nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto

from archc.codegen.onnx.initializers import Initializers, UniqueNames, onnx_dtype, raw_bytes
from archc.ir.graph import Graph
from archc.types.tensor_type import DType, TensorType
from archc.weights.dtype_conversion import name_of_numpy
from archc.weights.tensor import Weights


class OnnxGraph:
    """An ONNX graph under construction; the emitters of operators, weights and scans add nodes to it.

    Args:
        graph: the graph that is emitted; its tensors must be bound.
        proto: an empty message, which is filled.
        owns_weights: True if the model has its own copy of the weights.  The layout of this copy may differ from that
            of the weights file.

    Attributes:
        names: names of values and initializers in use.
        types: types of values by ONNX name; intermediate values of an operator have no entry.
        records: the list that receives new nodes, of the graph or of the body of a scan.
        domains: domains of the operators used.
    """

    def __init__(self, graph: Graph, proto: onnx.GraphProto, owns_weights: bool):
        self.graph, self.proto, self.owns_weights = graph, proto, owns_weights
        self.proto.name = graph.name
        self.domains: set[str] = set()
        inputs = [value.name or "" for value in graph.inputs]
        stored = [path for weight in graph.weights.values() for path in weight.tensors]
        self.names = UniqueNames([*inputs, *graph.outputs, *stored])
        self.initializers = Initializers(proto, self.names)
        self.types: dict[str, TensorType] = {}
        self.records: list[NodeRecord] = []
        self._outermost = self.records
        self._node_names = UniqueNames()

    @property
    def tensors(self) -> Weights:
        """The bound weights."""
        tensors = self.graph.tensors
        assert tensors is not None, "the emitter checks that weights are bound"
        return tensors

    @contextmanager
    def recording(self, records: list[NodeRecord]) -> Iterator[None]:
        """Collect new nodes in another list for the duration of the context."""
        around, self.records = self.records, records
        try:
            yield
        finally:
            self.records = around

    def fresh(self, name: str) -> str:
        """Return an unused name for a value, and mark it as used."""
        return self.names.unique(name)

    def node_name(self, name: str) -> str:
        """Return an unused name for a node, and mark it as used."""
        return self._node_names.unique(name)

    def stored(self, path: str) -> tuple[str, ...]:
        """Names of the stored tensors of a weight."""
        return tuple(self.initializers.stored(name, self.tensors[name]) for name in self.graph.weights[path].tensors)

    def derived(self, name: str, array: np.ndarray[Any, Any]) -> str:
        """Add an initializer computed from stored weights, and return its name."""
        return self.initializers.derived(self.names.unique(name), array)

    def constant(self, value: Any, dtype: DType | None = None) -> str:
        """The name of a constant; see `OnnxSpelling.constant`."""
        return self.initializers.constant(value, dtype)

    def shared(self, name: str, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node to the outermost graph, for use by any later node; return the name of its result."""
        unique = self.names.unique(name)
        self._outermost.append(NodeRecord(op_type, list(inputs), [unique], attributes, name=unique))
        return unique

    def copy(self, source: str, name: str) -> None:
        """Add an `Identity`, for a value that needs two names."""
        self.records.append(NodeRecord("Identity", [source], [name], {}, name=self.node_name(name)))

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

    def write(self, proto: onnx.GraphProto, records: Iterable[NodeRecord]) -> None:
        """Write nodes into the message of the graph or of the body of a scan."""
        for record in records:
            self.domains.add(record.domain)
            write(proto.node.add(), record)


@dataclass(slots=True)
class NodeRecord:
    """A node before it is written into the message; its names may still change."""

    op_type: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    domain: str = ""
    name: str = ""


def captured(record: NodeRecord) -> set[str]:
    """The names that the nodes in the body of a scan use, from outside the body and from inside."""
    bodies = [value for value in record.attributes.values() if isinstance(value, onnx.GraphProto)]
    return {name for body in bodies for name in _used(body)}


def _used(body: onnx.GraphProto) -> set[str]:
    found = {name for node in body.node for name in node.input}
    for node in body.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found |= _used(attribute.g)
    return found


def write(proto: onnx.NodeProto, record: NodeRecord) -> None:
    """Fill an empty `NodeProto`; omit attributes that are None, and absent optional inputs at the end."""
    inputs = record.inputs
    while inputs and not inputs[-1]:
        inputs.pop()
    proto.input.extend(inputs)
    proto.output.extend(record.outputs)
    proto.name = record.name
    proto.op_type = record.op_type
    if record.domain:
        proto.domain = record.domain
    for key, value in sorted(record.attributes.items()):
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
