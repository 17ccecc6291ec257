"""A graph spelled in ONNX: the nodes of one `GraphProto`, made operator by operator.

The builder walks the graph once and lets every operator spell itself through a `Spelling`.  It keeps the names: a
value is called what the user calls it, else after its layer, else after its operator; the nodes of an operator that
takes several are called `fc1/MatMul`, `fc1/Add`.

Decoding is lazy.  `dequantize` and the decoding of stored weights become nodes when somebody asks for the floats, so
that an operator with an integer form leaves none of it behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx

from archc.codegen.onnx.barriers import separate
from archc.codegen.onnx.decode import decode, dequantize, integer_bias
from archc.codegen.onnx.initializers import Fill, Initializers, onnx_dtype
from archc.codegen.onnx.int8.channels_last import flatten_channels_last
from archc.codegen.onnx.int8.fusible import make_fusible
from archc.codegen.onnx.int8.moves import decode_late
from archc.codegen.onnx.int8.stems import pooled_stems
from archc.codegen.onnx.names import Names
from archc.codegen.onnx.nodes import Record, write
from archc.codegen.onnx.scans import captured, scan_records
from archc.codegen.onnx.sizes import Sizes
from archc.codegen.onnx.spelling import Spelling
from archc.diagnostics import ArchcError, Diagnostic, Note, error
from archc.ir.graph import Graph, Node, Value
from archc.ir.scans import Scan, schedule
from archc.operator.base import Operator, OperatorError
from archc.operator.spelling import Quantized
from archc.types.storage import Weight
from archc.types.tensor_type import DType, TensorType


class Builder:
    """Makes the ONNX graph of one graph.

    Args:
        graph: its tensors must be bound.
        proto: an empty one, which receives it.
        fill: where the elements of stored weights go.

    Attributes:
        names: the names of values and initializers that are taken.
        domains: the domains of the operators used.
    """

    def __init__(self, graph: Graph, proto: onnx.GraphProto, fill: Fill):
        self.graph = graph
        self.proto = proto
        self.proto.name = graph.name
        self.domains: set[str] = set()
        self._lacking: list[Diagnostic] = []
        inputs = [value.name or "" for value in graph.inputs]
        stored = [path for weight in graph.weights.values() for path in weight.tensors]
        self.names = Names([*inputs, *graph.outputs, *stored])
        self.initializers = Initializers(self.proto, fill, self.names)
        self.sizes = Sizes(graph, self)
        self._nodes = Names()
        self._names: dict[Value, str] = dict(zip(graph.inputs, inputs, strict=True))
        self._types: dict[str, TensorType] = dict(zip(inputs, (value.type for value in graph.inputs), strict=True))
        self._output_names: dict[Value, str] = {}
        self._waiting: dict[Value, tuple[Node, list[Record]]] = {}  # with where it belongs
        self._decoded: dict[str, str] = {}
        self._dequantized: dict[str, str] = {}
        self._transposed: dict[str, str] = {}
        self._cast: dict[tuple[str, DType], str] = {}
        self._biases: dict[tuple[str, str, str], str | None] = {}
        self._records: list[Record] = []  # of the graph, or of the steps of a scan
        self._outermost = self._records

    def build(self) -> None:
        """Fill the graph.

        Raises:
            ArchcError: operators without a form in ONNX (`no-onnx-form`), all of them; an output that is called
                as an input is (`onnx-name`).
        """
        self._interface()
        self.items(schedule(self.graph))
        self._outputs()
        if self._lacking:
            raise ArchcError(dict.fromkeys(self._lacking))  # a block used twice says the same twice
        records = self._rewritten(self._records, self.graph.outputs)
        used = _used_elsewhere(records, self.graph.outputs)
        records = flatten_channels_last(self, pooled_stems(self, records, used), used)
        for record in self._separated(records, self.graph.outputs):
            write(self.proto.node.add(), record)

    def items(self, items: Sequence[Node | Scan]) -> None:
        """Spell nodes and scans, one after the other."""
        for item in items:
            if isinstance(item, Scan):
                self._records += scan_records(self, item)
            elif item.op.unpacks:
                self._waiting.update((value, (item, self._records)) for value in item.results)
            else:
                self._spell(item)

    def fusible(self, records: list[Record], outputs: Iterable[str]) -> list[Record]:
        """The nodes of a scan's body as they are written; see `archc.codegen.onnx.int8.fusible`."""
        return self._separated(self._rewritten(records, outputs), outputs)

    def _rewritten(self, records: list[Record], outputs: Iterable[str]) -> list[Record]:
        used = _used_elsewhere(records, outputs)
        made = make_fusible(records, used, self.names, lambda: self.constant(0.0), self._is_int8)
        return decode_late(made, used, self.names, self._is_int8)

    def _separated(self, records: list[Record], outputs: Iterable[str]) -> list[Record]:
        """The nodes after the last rewrite, `separate`: its copies would hide patterns from the other rewrites."""
        made = separate(records, _used_elsewhere(records, outputs), self.names, self.initializers)
        self.domains.update(record.domain for record in made)
        return made

    def _is_int8(self, zero_point: str) -> bool:
        """Return whether a zero point is a stored int8 scalar."""
        tensors = self.graph.tensors
        assert tensors is not None, "the emitter checks that weights are bound"
        if zero_point not in self.initializers:
            return False
        tensor = tensors[zero_point]
        return tensor.dtype == DType.i8.value and not tensor.shape

    # What a scan asks for ---------------------------------------------------------------------------------

    @contextmanager
    def recording(self, records: list[Record]) -> Iterator[None]:
        """Nodes that are spelled meanwhile go into this list."""
        around, self._records = self._records, records
        try:
            yield
        finally:
            self._records = around

    def fresh(self, name: str) -> str:
        """A name for a value that the graph does not have."""
        return self.names.unique(name)

    def node_name(self, name: str) -> str:
        """A name for a node."""
        return self._nodes.unique(name)

    def enter(self, value: Value, title: str) -> str:
        """Name a value that each step is given."""
        name = self.names.unique(f"{title}.{value.name or value.index}")
        self._names[value], self._types[name] = name, value.type
        return name

    def result(self, value: Value, node: Node) -> str:
        """Name a result of a scan."""
        name = self._value_name(value, node)
        self._names[value], self._types[name] = name, value.type
        return name

    # What a spelling asks for -----------------------------------------------------------------------------

    def name(self, value: Value) -> str:
        """The name of a value; decodes it first if that has not been done."""
        if value not in self._names and value in self._waiting:
            node, records = self._waiting[value]
            with self.recording(records):
                self._spell(node)
        return self._names[value]

    def type_of(self, name: str) -> TensorType | None:
        """The type of a value of the graph by its ONNX name; None for the inner values of an operator."""
        return self._types.get(name)

    def quantized(self, value: Value) -> Quantized | None:
        """See `OnnxSpelling.quantized`."""
        if value not in self._waiting:
            return None
        node, _ = self._waiting[value]
        if node.operands[1].type.rank:
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

    def transposed(self, path: str) -> str:
        """The name of the transpose of a weight of two axes; ONNX Runtime computes it once, when it loads the model."""
        if path not in self._transposed:
            self._transposed[path] = self.shared(f"{path}/Transpose", "Transpose", self.decoded(path), perm=[1, 0])
        return self._transposed[path]

    def cast(self, name: str, have: DType, dtype: DType) -> str:
        """The name of a weight's value in a dtype; one `Cast` serves all layers."""
        if have is dtype:
            return name
        key = (name, dtype)
        if key not in self._cast:
            self._cast[key] = self.shared(f"{name}/Cast", "Cast", name, to=dtype)
        return self._cast[key]

    def decoded_weight(self, name: str) -> Weight | None:
        """The weight that a name is the decoded value of."""
        return next((self.graph.weights[path] for path, made in self._decoded.items() if made == name), None)

    def dequantized(self, path: str) -> str:
        """See `OnnxSpelling.dequantized`."""
        if path not in self._dequantized:
            self._dequantized[path] = dequantize(self, self.graph.weights[path])
        return self._dequantized[path]

    def integer_bias(self, path: str, weight: str, scale: str) -> str | None:
        """See `OnnxSpelling.integer_bias`; takes the paths of bias, weight and the operand's scale."""
        key = (path, weight, scale)
        if key not in self._biases:
            self._biases[key] = integer_bias(self, path, self.graph.weights[weight], scale)
        return self._biases[key]

    def derived(self, name: str, array: np.ndarray[Any, Any]) -> str:
        """Add an initializer that was computed from stored weights."""
        return self.initializers.derived(self.names.unique(name), array)

    def constant(self, value: Any, dtype: DType | None = None) -> str:
        """See `OnnxSpelling.constant`."""
        return self.initializers.constant(value, dtype)

    def shared(self, name: str, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node that does not belong to the operator being spelled, and that later ones may use as well."""
        unique = self.names.unique(name)
        self._outermost.append(Record(op_type, list(inputs), [unique], attributes, name=unique))
        return unique

    # The walk ---------------------------------------------------------------------------------------------

    def _interface(self) -> None:
        for value in self.graph.inputs:
            self.declare(self.proto.input.add(), value.name or "", value.type)
        inputs = {value.name: value for value in self.graph.inputs}
        for name, value in self.graph.outputs.items():
            if inputs.get(name, value) is not value:
                raise error(
                    "onnx-name",
                    f"ONNX cannot tell the output `{name}` from the input `{name}`",
                    value.producer.span if value.producer else None,
                    help="give the output another name",
                )
            self.declare(self.proto.output.add(), name, value.type)
            if value.producer is not None:
                self._output_names.setdefault(value, name)

    def declare(self, info: onnx.ValueInfoProto, name: str, type: TensorType) -> None:
        """Enter an input or an output of a graph."""
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
        prefix = self._nodes.unique(node.path or node.scope.within(node.op.name))
        names = [self._value_name(value, node) for value in node.results]
        try:
            spelling = Spelling(self, node, prefix)
            made = spelling.finished(_as_tuple(_onnx(node, spelling)))
        except OperatorError as problem:
            self._lacking.append(_lack(node, problem))
            self._names.update(zip(node.results, names, strict=True))
            return
        renamed: dict[str, str] = {}
        copies = []
        for value, name, result in zip(node.results, names, made, strict=True):
            source = renamed.get(result, result)
            if result not in renamed and spelling.rename(result, name):
                renamed[result] = source = name
            # Else the operator hands on what was there before, as dropout does: the result is another name for that.
            elif value in self._output_names:
                copies.append((source, name))
                source = name
            self._names[value] = source
            self._types.setdefault(source, value.type)
        if len(spelling.records) == 1:
            spelling.records[0].name = prefix
        self._records += spelling.records
        for source, name in copies:
            self._copy(source, name)

    def _value_name(self, value: Value, node: Node) -> str:
        if value in self._output_names:
            return self._output_names[value]
        if value.name is not None:
            return self.names.unique(node.scope.within(value.name))
        name = node.path or node.scope.within(node.op.name)
        return self.names.unique(name if len(node.results) == 1 else f"{name}.{value.index}")

    def _copy(self, source: str, name: str) -> None:
        """Give a value another name, where the graph needs both."""
        self._records.append(Record("Identity", [source], [name], {}, name=self._nodes.unique(name)))

    def _outputs(self) -> None:
        for name, value in self.graph.outputs.items():
            have = self.name(value)
            if have != name:
                self._copy(have, name)


def _used_elsewhere(records: Iterable[Record], outputs: Iterable[str]) -> set[str]:
    """The names that are used by others than the nodes themselves: a graph's outputs, and those that bodies take."""
    return {*outputs, *(name for record in records for name in captured(record))}


def _onnx(node: Node, spelling: Spelling) -> str | tuple[str, ...]:
    if type(node.op).onnx is Operator.onnx and not node.op.onnx_name:
        raise OperatorError("no-onnx-form", f"ONNX has no form of `{node.op.name}`")
    return node.op.onnx(spelling)


def _as_tuple(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _lack(node: Node, problem: OperatorError) -> Diagnostic:
    help = problem.help or f"emit PyTorch alone, or write the model without `{node.op.name}`"
    notes = tuple(Note(note) for note in problem.notes)
    return Diagnostic("error", problem.code, f"{node.title}: {problem.message}", node.span, notes, help)
