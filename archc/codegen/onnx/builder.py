"""A graph spelled in ONNX: the nodes of one `GraphProto`, made operator by operator.

The builder walks the graph once and lets every operator spell itself through a `Spelling`.  It keeps the names: a
value is called what the user calls it, else after its layer, else after its operator; the nodes of an operator that
takes several are called `fc1/MatMul`, `fc1/Add`.

Decoding is lazy.  `dequantize` and the decoding of stored weights become nodes when somebody asks for the floats, so
that an operator with an integer form leaves none of it behind.
"""

from __future__ import annotations

from typing import Any

import onnx

from archc.codegen.onnx.decode import decode, dequantize
from archc.codegen.onnx.initializers import Fill, Initializers, onnx_dtype
from archc.codegen.onnx.names import Names
from archc.codegen.onnx.nodes import Record, write
from archc.codegen.onnx.sizes import Sizes
from archc.codegen.onnx.spelling import Spelling
from archc.diagnostics import Diagnostics, error
from archc.ir.graph import Graph, Node, Value
from archc.ir.types import DType, TensorType
from archc.ops.operator import Operator, OperatorError
from archc.ops.spelling import Quantized

DEQUANTIZE = "dequantize"
"""The operator whose nodes wait until somebody asks for what they decode."""


class Builder:
    """Makes the ONNX graph of one graph.

    Args:
        graph: its tensors must be bound.
        proto: an empty one, which receives it.
        fill: where the elements of stored weights go.
    """

    def __init__(self, graph: Graph, proto: onnx.GraphProto, fill: Fill):
        self.graph = graph
        self.proto = proto
        self.proto.name = graph.name
        self.domains: set[str] = set()
        self.initializers = Initializers(self.proto, fill)
        self.sizes = Sizes(graph, self)
        self._found = Diagnostics()
        inputs = [value.name or "" for value in graph.inputs]
        stored = [path for weight in graph.weights.values() for path in weight.tensors]
        self._values = Names([*inputs, *graph.outputs, *stored])
        # Names of nodes begin the names of inner values, and these two the names of what nodes share.
        self._nodes = Names(["constant", "size", "shape"])
        self._names: dict[Value, str] = dict(zip(graph.inputs, inputs, strict=True))
        self._types: dict[str, TensorType] = dict(zip(inputs, (value.type for value in graph.inputs), strict=True))
        self._output_names: dict[Value, str] = {}
        self._waiting: dict[Value, Node] = {}
        self._decoded: dict[str, str] = {}
        self._dequantized: dict[str, str] = {}

    def build(self) -> None:
        """Fill the graph.

        Raises:
            ArchcError: operators without a form in ONNX (`no-onnx-form`), all of them; an output that is called
                as an input is (`onnx-name`).
        """
        self._interface()
        for node in self.graph.nodes():
            if node.op.name == DEQUANTIZE:
                self._waiting.update((value, node) for value in node.results)
            else:
                self._spell(node)
        self._outputs()
        self._found.check()

    # What a spelling asks for -----------------------------------------------------------------------------

    def name(self, value: Value) -> str:
        """The name of a value; decodes it first if that has not been done."""
        if value not in self._names and value in self._waiting:
            self._spell(self._waiting[value])
        return self._names[value]

    def type_of(self, name: str) -> TensorType | None:
        """The type of a value of the graph by its ONNX name; None for the inner values of an operator."""
        return self._types.get(name)

    def quantized(self, value: Value) -> Quantized | None:
        """See `OnnxSpelling.quantized`."""
        node = self._waiting.get(value)
        if node is None:
            return None
        q, scale, zero_point = (self.name(operand) for operand in node.operands)
        static = scale in self.initializers and zero_point in self.initializers
        return Quantized(q, scale, zero_point, static)

    def stored(self, path: str) -> tuple[str, ...]:
        """The names of the stored tensors of a weight."""
        tensors = self.graph.tensors
        assert tensors is not None, "the emitter checks that weights are bound"
        return tuple(self.initializers.stored(name, tensors[name]) for name in self.graph.weights[path].tensors)

    def decoded(self, path: str) -> str:
        """The name of what a weight's storage decodes to; one decoding serves all layers."""
        if path not in self._decoded:
            self._decoded[path] = decode(self, self.graph.weights[path])
        return self._decoded[path]

    def dequantized(self, path: str) -> str:
        """See `OnnxSpelling.dequantized`."""
        if path not in self._dequantized:
            self._dequantized[path] = dequantize(self, self.graph.weights[path])
        return self._dequantized[path]

    def constant(self, value: Any, dtype: DType | None = None) -> str:
        """See `OnnxSpelling.constant`."""
        return self.initializers.constant(value, dtype)

    def shared(self, name: str, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node that does not belong to the operator being spelled, and that later ones may use as well."""
        unique = self._values.unique(name)
        self._write(unique, Record(op_type, list(inputs), [unique], attributes))
        return unique

    # The walk ---------------------------------------------------------------------------------------------

    def _interface(self) -> None:
        for value in self.graph.inputs:
            self._declare(self.proto.input.add(), value.name or "", value.type)
        inputs = {value.name: value for value in self.graph.inputs}
        for name, value in self.graph.outputs.items():
            if inputs.get(name, value) is not value:
                raise error(
                    "onnx-name",
                    f"ONNX cannot tell the output `{name}` from the input `{name}`",
                    value.producer.span if value.producer else None,
                    help="give the output another name",
                )
            self._declare(self.proto.output.add(), name, value.type)
            if value.producer is not None:
                self._output_names.setdefault(value, name)

    def _declare(self, info: onnx.ValueInfoProto, name: str, type: TensorType) -> None:
        info.name = name
        tensor = info.type.tensor_type
        tensor.elem_type = onnx_dtype(type.dtype)
        tensor.shape.SetInParent()  # or a scalar would be of unknown rank
        for dim in type.shape:
            if isinstance(dim, int):
                tensor.shape.dim.add(dim_value=dim)
            else:
                tensor.shape.dim.add(dim_param=str(dim))

    def _spell(self, node: Node) -> None:
        prefix = self._nodes.unique(node.path or _below(node, node.op.name))
        spelling = Spelling(self, node, prefix)
        names = [self._value_name(value, node) for value in node.results]
        try:
            made = _onnx(node, spelling)
        except OperatorError as problem:
            help = problem.help or f"emit PyTorch alone, or write the model without `{node.op.name}`"
            self._found.error(problem.code, f"{node.title}: {problem.message}", node.span, problem.notes, help)
            self._names.update(zip(node.results, names, strict=True))
            return
        results = (made,) if isinstance(made, str) else tuple(made)
        for value, name, result in zip(node.results, names, results, strict=True):
            if not spelling.rename(result, name):
                # The operator hands on what was there before (dropout): its result is another name for that.
                name = self._copy(result, name) if value in self._output_names else result
            self._names[value] = name
            self._types.setdefault(name, value.type)
        for record in spelling.records:
            self._write(prefix if len(spelling.records) == 1 else record.name, record)

    def _value_name(self, value: Value, node: Node) -> str:
        if value in self._output_names:
            return self._output_names[value]
        if value.name is not None:
            return self._values.unique(_below(node, value.name))
        name = node.path or _below(node, node.op.name)
        return self._values.unique(name if len(node.results) == 1 else f"{name}.{value.index}")

    def _copy(self, source: str, name: str) -> str:
        """Another name for a value, where the graph needs both."""
        self._write(self._nodes.unique(name), Record("Identity", [source], [name], {}))
        return name

    def _outputs(self) -> None:
        for name, value in self.graph.outputs.items():
            have = self.name(value)
            if have != name:
                self._copy(have, name)

    def _write(self, name: str, record: Record) -> None:
        self.domains.add(record.domain)
        write(self.proto.node.add(), name, record)


def _onnx(node: Node, spelling: Spelling) -> str | tuple[str, ...]:
    if type(node.op).onnx is Operator.onnx and not node.op.onnx_name:
        raise OperatorError("no-onnx-form", f"ONNX has no form of `{node.op.name}`")
    return node.op.onnx(spelling)


def _below(node: Node, name: str) -> str:
    return f"{node.scope.path}.{name}" if node.scope.path else name
