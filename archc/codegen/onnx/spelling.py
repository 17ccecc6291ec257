"""What one operator is given to spell itself in ONNX: `archc.ops.spelling.OnnxSpelling`, made true."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from archc.codegen.onnx.nodes import Record
from archc.ir.dims import SymbolicDim
from archc.ir.graph import Node
from archc.ir.storage import Dense, Storage
from archc.ir.types import DType, TensorType
from archc.ops.spelling import Quantized

if TYPE_CHECKING:
    from archc.codegen.onnx.builder import Builder


class Spelling:
    """The surroundings of one node.

    Attributes:
        records: the nodes that the operator has added so far.
    """

    def __init__(self, builder: Builder, node: Node, prefix: str):
        self._builder, self._node, self._prefix = builder, node, prefix
        self.records: list[Record] = []
        self.operands: Sequence[str] = _LazySequence(len(node.operands), lambda k: builder.name(node.operands[k]))
        self.weights: Mapping[str, str] = _LazyMapping(node.weights, self._weight)
        self.types: Sequence[TensorType] = node.types
        self.results: Sequence[TensorType] = tuple(value.type for value in node.results)

    @property
    def sizes(self) -> Mapping[str, Any]:
        return self._node.op.infer(self._node.types).solution.extents

    @property
    def storages(self) -> Mapping[str, Storage]:
        weights = self._builder.graph.weights
        stored = {name: weights[path].storage for name, path in self._node.weights.items()}
        return stored | dict.fromkeys(self._node.transposed, Dense())  # the numbers are transposed, not the integers

    @overload
    def add(self, op_type: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any) -> tuple[str, ...]: ...
    @overload
    def add(self, op_type: str, *inputs: str, domain: str = "", **attributes: Any) -> str: ...
    def add(
        self, op_type: str, *inputs: str, outputs: int | None = None, domain: str = "", **attributes: Any
    ) -> str | tuple[str, ...]:
        name = self._builder.names.unique(f"{self._prefix}/{op_type}")
        names = (name,) if outputs is None else tuple(f"{name}.{k}" for k in range(outputs))
        self.records.append(Record(op_type, list(inputs), list(names), attributes, domain, name))
        return name if outputs is None else names

    def constant(self, value: Any, dtype: DType | None = None) -> str:
        return self._builder.constant(value, dtype)

    def size(self, dim: int | SymbolicDim) -> str:
        return self._builder.sizes.scalar(dim)

    def shape(self, dims: Sequence[int | SymbolicDim], like: str | None = None) -> str:
        if like is None:
            return self._builder.sizes.shape(dims)
        known = self._builder.type_of(like)
        return self._builder.sizes.shape(dims, like=known.shape if known else ())

    def quantized(self, position: int) -> Quantized | None:
        return self._builder.quantized(self._node.operands[position])

    def _weight(self, name: str) -> str:
        path = self._node.weights[name]
        return self._builder.transposed(path) if name in self._node.transposed else self._builder.decoded(path)

    def stored(self, name: str) -> tuple[str, ...]:
        return self._builder.stored(self._node.weights[name])

    def oriented(self, name: str) -> tuple[str, bool]:
        return self._builder.decoded(self._node.weights[name]), name in self._node.transposed

    def dequantized(self, name: str) -> str:
        return self._builder.dequantized(self._node.weights[name])

    def integer_bias(self, operand: Quantized) -> str:
        paths = self._node.weights
        return self._builder.integer_bias(paths["bias"], paths["weight"], operand.scale) if "bias" in paths else ""

    def rename(self, old: str, new: str) -> bool:
        """Give a value that the operator made another name; False where the operator did not make it."""
        if not any(old in record.outputs for record in self.records):
            return False
        for record in self.records:
            record.inputs = [new if name == old else name for name in record.inputs]
            record.outputs = [new if name == old else name for name in record.outputs]
        return True


class _LazySequence(Sequence[str]):
    """Names that are made when they are read."""

    def __init__(self, length: int, make: Callable[[int], str]):
        self._length, self._make = length, make

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[str]: ...
    def __getitem__(self, position: int | slice) -> str | Sequence[str]:
        chosen = range(self._length)[position]
        return self._make(chosen) if isinstance(chosen, int) else [self._make(k) for k in chosen]

    def __len__(self) -> int:
        return self._length


class _LazyMapping(Mapping[str, str]):
    """Names by name that are made when they are read."""

    def __init__(self, keys: Mapping[str, Any], make: Callable[[str], str]):
        self._keys, self._make = keys, make

    def __getitem__(self, key: str) -> str:
        if key not in self._keys:
            raise KeyError(key)
        return self._make(key)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)
