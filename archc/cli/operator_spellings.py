"""Spellings of an operator: the PyTorch code and the ONNX nodes for its example.

The example does not declare the types of its operands, so a few combinations of types are tried; the first one that
passes the type check is used.  The spellings come from the operator's own methods, as in the emitters, so `archc ops`
is correct for user-defined operators too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from archc.diagnostics import ArchcError, Diagnostics, Source

if TYPE_CHECKING:
    from archc.declaration.base import Operator
    from archc.declaration.spelling import QuantizedValue, ScanStep, TorchSpelling
    from archc.ir.graph import Graph, Node
    from archc.types.dims import SymbolicDim
    from archc.types.storage import Storage
    from archc.types.tensor_type import DType, TensorType

_SHAPES = ("2, 48, 768", "2, 48, 64, 64", "2, 48, 16, 64, 64", "2, 64", "2, 48, 2304", "2, 3072", "2, 1, 64")
_VECTOR = "48"
_DTYPES = ("f32", "i64", "bool", "u8")
_NAME = re.compile(r"\b[a-z_][a-z_0-9]*\b(?!\s*[(:])")


def spellings(cls: type[Operator]) -> dict[str, Any]:
    """Spellings by target: a PyTorch expression and constructor, and the ONNX nodes.

    Each value is None if the operator has no example, or its example fits none of the tried types.
    """
    node = _example_node(cls)
    if node is None:
        return {"torch": None, "torch_module": None, "onnx": None}
    spelling = _torch_spelling(node)
    module = node.op.torch_module(spelling)
    recorder = _Recorder(node)
    node.op.onnx(recorder)
    return {
        "torch": node.op.torch(spelling),
        "torch_module": None if module is None else str(module),
        "onnx": recorder.nodes,
    }


def _example_node(cls: type[Operator]) -> Node | None:
    """The node of the operator in the graph of its example, or None."""
    for graph in _example_graphs(cls.example) if cls.example else ():
        for node in graph.nodes():
            if type(node.op) is cls:
                return node
    return None


def _example_graphs(example: str) -> Iterator[Graph]:
    """Graphs of an example, one for each tried combination of operand types that it accepts."""
    statement = example_statement(example)
    targets, _, value = statement.partition(" = ")
    names = _operands(value)
    outputs = "\n".join(f"output {name}_ = {name}" for name in targets.split(", "))
    for types in _types(len(names)):
        inputs = "\n".join(f"input {name}: {type}" for name, type in zip(names, types, strict=True))
        lines = ("model example {", "input sizes: f32[N, T]", "let D = 64", inputs, statement, outputs, "}")
        graph = _elaborated("\n".join(lines))
        if graph is not None:
            yield graph


def example_statement(example: str) -> str:
    """The example of an operator as a statement: `y = x -> relu` for `x -> relu`."""
    return example if re.match(r"[a-z_, ]+ = ", example) else f"y = {example}"


def _operands(value: str) -> list[str]:
    """The names in an expression that are neither operators, dtypes nor words of the language."""
    from archc.declaration import OPERATORS
    from archc.types.tensor_type import DType

    others = {*OPERATORS, *DType, "true", "false", "none"}
    names = _NAME.findall(re.sub(r'"[^"]*"|\b\w+ = ', "", value))
    return [name for name in dict.fromkeys(names) if name not in others]


def _types(count: int) -> Iterator[list[str]]:
    """Yield the combinations of operand types to try.

    All operands have one shape, or all operands except the first are vectors.

    Args:
        count: number of operands.
    """
    for shape, vectors, first, others in product(_SHAPES, (False, True), _DTYPES, _DTYPES):
        if count > 1 or (not vectors and others == first):
            yield [f"{first}[{shape}]", *[f"{others}[{_VECTOR if vectors else shape}]"] * (count - 1)][:count]


def _elaborated(text: str) -> Graph | None:
    from archc.compiler import parse

    try:
        return parse(Source(text), diagnostics=Diagnostics())
    except ArchcError:
        return None


def _torch_spelling(node: Node) -> TorchSpelling:
    from archc.declaration.spelling import TorchSpelling

    inference = node.op.infer(node.types)
    return TorchSpelling(
        operands=_operand_names(node),
        weights={name: name for name in node.weights},
        types=node.types,
        results=inference.results,
        sizes=inference.solution.extents,
        size_text=str,
        storages=_storages(node),
    )


def _operand_names(node: Node) -> list[str]:
    """Names of the operands in the example, else those in the signature."""
    patterns = [p for p in node.op.signature_for(node.types).operands if p.name not in node.op.parameters]
    return [value.name or pattern.name for value, pattern in zip(node.operands, patterns)]


def _storages(node: Node) -> dict[str, Storage]:
    from archc.types.storage import Dense

    return {name: Dense() for name in node.weights}


class _Recorder:
    """An `OnnxSpelling` that only records the operators of the added nodes."""

    def __init__(self, node: Node):
        self.operands: Sequence[str] = _operand_names(node)
        self.weights: Mapping[str, str] = {name: name for name in node.weights}
        self.types: Sequence[TensorType] = node.types
        self.results: Sequence[TensorType] = [value.type for value in node.results]
        self.sizes: Mapping[str, Any] = node.op.infer(node.types).solution.extents
        self.storages: Mapping[str, Storage] = _storages(node)
        self.nodes: list[str] = []
        self.contributed = False

    def add(self, op_type: str, *inputs: str, outputs: int | None = None, domain: str = "", **attributes: Any) -> Any:
        self.nodes.append(f"{domain}.{op_type}" if domain else op_type)
        return op_type if outputs is None else (op_type,) * outputs

    def scan(
        self,
        first: Sequence[tuple[str, TensorType]],
        sequences: Sequence[tuple[str, TensorType]],
        step: ScanStep,
        reverse: bool = False,
    ) -> tuple[Sequence[str], Sequence[str]]:
        self.add("Scan")
        states, kept = step([name for name, _ in first], [name for name, _ in sequences])
        return states, [name for name, _ in kept]

    def constant(self, value: Any, dtype: DType | None = None) -> str:
        return "constant"

    def size(self, dim: int | SymbolicDim) -> str:
        return "size"

    def shape(self, dims: Sequence[int | SymbolicDim]) -> str:
        return "shape"

    def reshape(self, value: str, dims: Sequence[int | SymbolicDim]) -> str:
        return str(self.add("Reshape", value, "shape"))

    def quantized(self, position: int) -> QuantizedValue | None:
        return None

    def stored(self, name: str) -> tuple[str, ...]:
        return (name,)

    def oriented(self, name: str) -> tuple[str, bool]:
        return name, False

    def transposed(self, name: str) -> str:
        return name

    def dequantized(self, name: str) -> str:
        return name

    def blocks(self, name: str, size: int) -> tuple[str, str, str]:
        return name, "scale", "zero_point"

    def rows(self, name: str, indices: str, rank: int) -> str:
        return str(self.add("Gather", name, indices, axis=0))

    def integer_bias(self, operand: QuantizedValue) -> str:
        return "bias"
