"""Translate a graph to an ONNX model, in memory or in a file.

The emitter walks the graph once, and every operator adds its ONNX nodes through a `NodeSpelling`.  A value has the
user's name, else the name of its layer, else the name of its operator.  Names show the blocks: `h.3/attn/softmax`.  If
an operator becomes several nodes, they are called `fc1/MatMul`, `fc1/Add`.

A model with less than `LARGE` bytes of weights contains them.  A larger model contains only tensors of up to 1 KB.  It
refers to the .safetensors file next to it for the other weights or, without such a file, to a data file of its own.  So
no large weight is written twice, and none passes through protobuf, whose limit is 2 GB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import onnx

from archc.codegen.onnx.constant_names import name_constants
from archc.codegen.onnx.contributed import CONTRIB_DOMAIN
from archc.codegen.onnx.decode import DecodedWeights
from archc.codegen.onnx.initializers import data_file, embed, external, written_to
from archc.codegen.onnx.node_spelling import NodeSpelling, ValueNames
from archc.codegen.onnx.onnx_graph import OnnxGraph
from archc.codegen.onnx.rewrites import rewrite
from archc.codegen.onnx.runtime_sizes import RuntimeSizes
from archc.codegen.onnx.scans import add_scan
from archc.declaration.base import Operator, OperatorError
from archc.declaration.traits import DECODES
from archc.diagnostics import ArchcError, Diagnostic, Note, error
from archc.ir.graph import Graph, Node
from archc.ir.scans import Scan, schedule
from archc.version import __version__

LARGE = 100_000_000
"""Smallest size of the weights, in bytes, at which they become external data."""


def to_model(graph: Graph, contributed: bool = True) -> onnx.ModelProto:
    """The model of a graph, with its weights inside.

    Args:
        contributed: True if the model may have operators of ONNX Runtime's own domain, `com.microsoft`.

    Raises:
        ArchcError: operators without a form in ONNX (`no-onnx-form`), one error for each.
        ValueError: no weights are bound to the graph.
    """
    model, made = _model(graph, owns_weights=True, contributed=contributed)
    made.initializers.fill(embed)
    return model


def without_elements(graph: Graph) -> onnx.ModelProto:
    """The model with its own copy of the weights, but without their elements; no weight is read.

    Raises:
        ArchcError, ValueError: as `to_model`.
    """
    return _model(graph, owns_weights=True)[0]


def emit(
    graph: Graph,
    path: Path,
    weights_file: Path | None = None,
    offsets: Mapping[str, tuple[int, int]] = MappingProxyType({}),
    properties: Mapping[str, str] = MappingProxyType({}),
    large: int | None = None,
    contributed: bool = True,
) -> onnx.ModelProto:
    """Write the model of a graph into a file, and return the model.

    Args:
        weights_file: the file with the graph's stored tensors, in the folder of `path`; None if there is no such file.
            Large weights are then in a data file of the model; see `data_file`.
        offsets: the offset and length of each tensor in the weights file, in bytes, as `safetensors.write` returns
            them.
        properties: the metadata of the model, such as the name of its source.
        large: the size of the weights, in bytes, from which on the model does not contain them.
        contributed: see `to_model`.

    Raises:
        ArchcError: as `to_model`; nothing is written then.
        ValueError: no weights are bound to the graph.
    """
    is_large = sum(weight.nbytes for weight in graph.weights.values()) >= (LARGE if large is None else large)
    model, made = _model(graph, weights_file is None or not is_large, contributed)
    if not is_large:
        made.initializers.fill(embed)
    elif weights_file is not None:
        made.initializers.fill(external(weights_file.name, offsets))
    else:
        with data_file(path).open("wb") as stream:
            made.initializers.fill(written_to(stream, data_file(path).name))
    for key, value in sorted(properties.items()):
        model.metadata_props.add(key=key, value=value)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return model


def _model(graph: Graph, owns_weights: bool, contributed: bool = True) -> tuple[onnx.ModelProto, OnnxGraph]:
    """The model without the elements of its weights, and its graph, whose initializers can be filled.

    Raises:
        ArchcError: operators without a form in ONNX (`no-onnx-form`), one error for each; an output with the name of an
            input (`onnx-name`).
        ValueError: no weights are bound to the graph.
    """
    if graph.tensors is None and graph.weights:
        raise ValueError("no weights are bound to the graph")
    model = onnx.ModelProto(ir_version=IR_VERSION, producer_name=PRODUCER, producer_version=__version__)
    model.doc_string = graph.scope.doc
    made = OnnxGraph(graph, model.graph, owns_weights, contributed)
    _Emitter(made).emit()
    model.opset_import.add(domain="", version=OPSET)
    if CONTRIB_DOMAIN in made.domains:
        model.opset_import.add(domain=CONTRIB_DOMAIN, version=1)
    return model, made


OPSET = 21
"""Oldest default operator set in which DequantizeLinear and Cast have all dtypes of archc."""

IR_VERSION = 10
"""Version of the ONNX file format that belongs to `OPSET`.

A newer one would needlessly exclude older runtimes.
"""

PRODUCER = "archc"


class _Emitter:
    """Walks over a graph and emits its nodes."""

    def __init__(self, onnx: OnnxGraph):
        self._onnx = onnx
        self._weights = DecodedWeights(onnx)
        self._sizes = RuntimeSizes(onnx)
        self._values = ValueNames(onnx, self._spell)
        self._lacking: list[Diagnostic] = []

    def emit(self) -> None:
        """Emit the graph."""
        graph = self._onnx.graph
        self._interface()
        self._items(schedule(graph))
        for name, value in graph.outputs.items():
            have = self._values[value]
            if have != name:
                self._onnx.copy(have, name)
        if self._lacking:
            raise ArchcError(dict.fromkeys(self._lacking))  # several instances of a block have the same error
        rewrite(self._onnx, graph.outputs)
        self._onnx.write(self._onnx.proto, self._onnx.nodes)
        name_constants(self._onnx.proto, self._onnx.initializers, self._onnx.names, OPSET)

    def _interface(self) -> None:
        """Declare inputs and outputs."""
        graph, proto = self._onnx.graph, self._onnx.proto
        for value in graph.inputs:
            name = self._values.assign(value, value.name or "", value.type)
            self._onnx.declare(proto.input.add(), name, value.type)
        inputs = {value.name: value for value in graph.inputs}
        for name, value in graph.outputs.items():
            if inputs.get(name, value) is not value:
                raise error(
                    "onnx-name",
                    f"ONNX cannot tell the output `{name}` from the input `{name}`",
                    value.producer.span if value.producer else None,
                    help="give the output another name",
                )
            self._onnx.declare(proto.output.add(), name, value.type)
            if value.producer is not None:
                self._values.reserve(value, name)

    def _items(self, items: Sequence[Node | Scan]) -> None:
        """Add the ONNX nodes of graph nodes and scans, in order."""
        for item in items:
            if isinstance(item, Scan):
                add_scan(self._onnx, self._values, item, self._items)
            elif item.op.has(DECODES):
                self._values.postpone(item)
            else:
                self._spell(item)

    def _spell(self, node: Node) -> None:
        prefix = self._onnx.node_name(self._onnx.scoped.layer(node))
        names = [self._values.name_for(value, node) for value in node.results]
        try:
            spelling = NodeSpelling(self._weights, self._sizes, self._values, node, prefix)
            made = spelling.finished(_as_tuple(_onnx(node, spelling)))
        except OperatorError as problem:
            self._lacking.append(_lack(node, problem))
            for value, name in zip(node.results, names, strict=True):
                self._values.assign(value, name)
            return
        renamed: dict[str, str] = {}
        copies = []
        for value, name, result in zip(node.results, names, made, strict=True):
            source = renamed.get(result, result)
            if result not in renamed and spelling.rename(result, name):
                renamed[result] = source = name
            # Otherwise the result is an existing value, as for `dropout`, which returns its operand.
            elif self._values.is_output(value):
                copies.append((source, name))
                source = name
            self._values.assign(value, source, value.type)
        spelling.insert()
        for source, name in copies:
            self._onnx.copy(source, name)


def _onnx(node: Node, spelling: NodeSpelling) -> str | tuple[str, ...]:
    if type(node.op).onnx is Operator.onnx and not node.op.onnx_name:
        raise OperatorError("no-onnx-form", f"ONNX has no form of `{node.op.name}`")
    return node.op.onnx(spelling)


def _as_tuple(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _lack(node: Node, problem: OperatorError) -> Diagnostic:
    help = problem.help or f"emit PyTorch alone with `--emit torch`, or remove `{node.op.name}` from the model"
    notes = tuple(Note(note) for note in problem.notes)
    return Diagnostic("error", problem.code, f"{node.title}: {problem.message}", node.span, notes, help)
