"""An ONNX graph under construction: its protobuf message, names, initializers and nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx

from archc.codegen.onnx.initializers import Fill, Initializers, onnx_dtype
from archc.codegen.onnx.nodes import Record, write
from archc.codegen.onnx.unique_names import UniqueNames
from archc.ir.graph import Graph
from archc.types.tensor_type import DType, TensorType
from archc.weights.tensor import Weights


class OnnxGraph:
    """The parts of an ONNX graph, to which operators, weights, sizes and scans add.

    Args:
        graph: the graph that is emitted; its tensors must be bound.
        proto: an empty message, which is filled.
        fill: function that gives stored weights their elements.

    Attributes:
        names: names of values and initializers in use.
        types: types of values by ONNX name; inner values of an operator have none.
        records: the list that receives new nodes, of the graph or of the body of a scan.
        domains: domains of the operators used.
    """

    def __init__(self, graph: Graph, proto: onnx.GraphProto, fill: Fill):
        self.graph, self.proto = graph, proto
        self.proto.name = graph.name
        self.domains: set[str] = set()
        inputs = [value.name or "" for value in graph.inputs]
        stored = [path for weight in graph.weights.values() for path in weight.tensors]
        self.names = UniqueNames([*inputs, *graph.outputs, *stored])
        self.initializers = Initializers(proto, fill, self.names)
        self.types: dict[str, TensorType] = {}
        self.records: list[Record] = []
        self._outermost = self.records
        self._node_names = UniqueNames()

    @property
    def tensors(self) -> Weights:
        """The bound weights."""
        tensors = self.graph.tensors
        assert tensors is not None, "the emitter checks that weights are bound"
        return tensors

    @contextmanager
    def recording(self, records: list[Record]) -> Iterator[None]:
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
        """See `OnnxSpelling.constant`."""
        return self.initializers.constant(value, dtype)

    def shared(self, name: str, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node to the outermost graph, so that any later node may use its result; return the result's name."""
        unique = self.names.unique(name)
        self._outermost.append(Record(op_type, list(inputs), [unique], attributes, name=unique))
        return unique

    def copy(self, source: str, name: str) -> None:
        """Add an `Identity`, for a value that needs two names."""
        self.records.append(Record("Identity", [source], [name], {}, name=self.node_name(name)))

    def declare(self, info: onnx.ValueInfoProto, name: str, type: TensorType) -> None:
        """Fill in the name and type of an input or output of a graph."""
        info.name = name
        tensor = info.type.tensor_type
        tensor.elem_type = onnx_dtype(type.dtype)
        tensor.shape.SetInParent()  # without it the rank of a scalar would be unknown
        for dim in type.shape:
            if isinstance(dim, int):
                tensor.shape.dim.add(dim_value=dim)
            else:
                tensor.shape.dim.add(dim_param=str(dim))

    def write(self, proto: onnx.GraphProto, records: Iterable[Record]) -> None:
        """Write nodes into a message: that of the graph, or that of the body of a scan."""
        for record in records:
            self.domains.add(record.domain)
            write(proto.node.add(), record)
