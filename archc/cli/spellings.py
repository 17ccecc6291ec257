"""How PyTorch and ONNX spell an operator, shown on its own example.

The example is elaborated with a type for each name in it, the first of a few that fits; the operator's methods do the
rest.  So what `archc ops` shows is what the emitters write, for a user's own operators too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

from archc.diagnostics import ArchcError, Diagnostics, Source

if TYPE_CHECKING:
    from archc.ir.dims import SymbolicDim
    from archc.ir.graph import Graph, Node
    from archc.ir.storage import Storage
    from archc.ir.types import DType, TensorType
    from archc.ops.operator import Operator
    from archc.ops.spelling import Quantized

_SHAPES = ("2, 48, 768", "2, 48, 64, 64", "2, 48, 16, 64, 64", "2, 64", "2, 48, 2304", "2, 3072", "2, 1, 64", "64")
_NAME = re.compile(r"\b[a-z_][a-z_0-9]*\b(?!\s*[(:])")
_NOT_OPERANDS = frozenset({"true", "false"})


def spellings(cls: type[Operator]) -> dict[str, Any]:
    """`torch`: an expression; `torch_module`: a constructor, where it has one; `onnx`: the nodes it becomes.

    None where the operator has no example that can be built on its own.
    """
    node = _example_node(cls)
    if node is None:
        return {"torch": cls.torch_name or None, "torch_module": None, "onnx": [cls.onnx_name] if cls.onnx_name else None}
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
    """The operator as its example uses it, in a graph of its own."""
    for graph in _example_graphs(cls.example) if cls.example else ():
        for node in graph.nodes():
            if type(node.op) is cls:
                return node
    return None


def _example_graphs(example: str) -> Iterator[Graph]:
    """The graphs that an example makes with operands of different types; most types will not do."""
    left, equals, right = re.sub(r'"[^"]*"', '""', example).partition(" = ")
    statement = bool(equals) and "->" not in left and "(" not in left
    results = left.split(", ") if statement else ["y"]
    source = right if statement else example
    known = _operator_names()
    names = [
        name
        for name in dict.fromkeys(_NAME.findall(re.sub(r'"[^"]*"', '""', source)))
        if name not in _NOT_OPERANDS | known or f"{name} " in source.partition("->")[0]
    ]
    body = example if statement else f"y = {example}"
    outputs = "\n".join(f"output {name}_out = {name}" for name in results)
    for shape, dtypes in product(_SHAPES, product(("f32", "i64", "bool"), repeat=min(len(names), 2))):
        types = [*dtypes, *dtypes[-1:] * len(names)]
        inputs = "\n".join(f"input {name}: {dtype}[{shape}]" for name, dtype in zip(names, types))
        graph = _elaborated(f"model example {{\ninput sizes_: f32[N, T, D]\n{inputs}\n{body}\n{outputs}\n}}")
        if graph is not None:
            yield graph


def _operator_names() -> frozenset[str]:
    from archc.ops import OPERATORS

    return frozenset(OPERATORS)


def _elaborated(text: str) -> Graph | None:
    from archc.compiler import parse

    try:
        return parse(Source(text), diagnostics=Diagnostics())
    except ArchcError:
        return None


def _torch_spelling(node: Node) -> Any:
    from archc.ops.spelling import TorchSpelling

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
    """What the example calls the operands, else x."""
    return [value.name or "x" for value in node.operands]


def _storages(node: Node) -> dict[str, Storage]:
    from archc.ir.storage import Dense

    return {name: Dense() for name in node.weights}


@dataclass
class _Recorder:
    """An `OnnxSpelling` that only keeps which nodes were asked for."""

    node: Node
    nodes: list[str] = field(default_factory=list)

    @property
    def operands(self) -> Sequence[str]:
        return _operand_names(self.node)

    @property
    def weights(self) -> Mapping[str, str]:
        return {name: name for name in self.node.weights}

    @property
    def types(self) -> Sequence[TensorType]:
        return self.node.types

    @property
    def results(self) -> Sequence[TensorType]:
        return [value.type for value in self.node.results]

    @property
    def sizes(self) -> Mapping[str, Any]:
        return self.node.op.infer(self.node.types).solution.extents

    @property
    def storages(self) -> Mapping[str, Storage]:
        return _storages(self.node)

    def add(self, op_type: str, *inputs: str, outputs: int | None = None, domain: str = "", **attributes: Any) -> Any:
        self.nodes.append(f"{domain}.{op_type}" if domain else op_type)
        return op_type if outputs is None else (op_type,) * outputs

    def constant(self, value: Any, dtype: DType | None = None) -> str:
        return "constant"

    def size(self, dim: int | SymbolicDim) -> str:
        return "size"

    def shape(self, dims: Sequence[int | SymbolicDim], like: str | None = None) -> str:
        return "shape"

    def quantized(self, position: int) -> Quantized | None:
        return None

    def stored(self, name: str) -> tuple[str, ...]:
        return (name,)

    def dequantized(self, name: str) -> str:
        return name

    def integer_bias(self, operand: Quantized) -> str:
        return "bias"
