"""The ONNX nodes of one operator, and the ONNX names of values.

`NodeSpelling` implements `archc.declaration.spelling.OnnxSpelling`, with which an operator adds its nodes.  The node of
a `dequantize` is added when the float result of the `dequantize` is first used.  If all consumers use the integers, no
node is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, overload

import onnx

from archc.codegen.onnx.contributed import CONTRIB_DOMAIN
from archc.codegen.onnx.decode import DecodedWeights
from archc.codegen.onnx.nodes import OnnxNode, OnnxNodes
from archc.codegen.onnx.onnx_graph import OnnxGraph
from archc.codegen.onnx.packed import PackedDecoder
from archc.codegen.onnx.runtime_sizes import RuntimeSizes
from archc.codegen.onnx.scan_bodies import finish_body
from archc.declaration.base import Inference, OperatorError
from archc.declaration.spelling import QuantizedValue, ScanStep
from archc.ir.graph import Node, Value
from archc.types.dims import SymbolicDim
from archc.types.storage import Dense, Int8, NarrowFloat, PackedIntegers, Storage
from archc.types.tensor_type import DType, TensorType


class NodeSpelling:
    """The ONNX names of one node's operands, weights and sizes, and the ONNX nodes of its operator.

    The operator sees the dtypes in which its ONNX form is computed: operands and weights of other dtypes are cast to
    these dtypes, and results are cast back; see `Operator.onnx_dtypes`.

    Raises:
        OperatorError: ONNX Runtime has no kernel for the operands' dtypes (`no-onnx-form`).
    """

    def __init__(
        self, decoded: DecodedWeights, runtime_sizes: RuntimeSizes, values: ValueNames, node: Node, prefix: str
    ):
        self._onnx, self._decoded, self._sizes, self._values = decoded.onnx, decoded, runtime_sizes, values
        self._node, self._prefix = node, prefix
        self.contributed = self._onnx.contributed
        self._nodes = self._onnx.nodes
        self._made: list[OnnxNode] = []
        self.operands: Sequence[str] = _LazySequence(len(node.operands), self._operand)
        self.weights: Mapping[str, str] = _LazyMapping(node.weights, self._weight)
        self.types: Sequence[TensorType] = node.op.onnx_types(node.types)
        self._casts: dict[int, str] = {}
        # Maps the name of each cast operand or weight to its name and dtype before the cast.
        self._before: dict[str, tuple[str, DType]] = {}
        # Without casts, the types of results and weights are those in the graph.  Inference is slow, so it is omitted.
        self._has_casts = self.types != node.types
        self.results: Sequence[TensorType] = (
            self._inference.results if self._has_casts else [value.type for value in node.results]
        )

    @cached_property
    def _inference(self) -> Inference:
        return self._node.op.infer(self.types)

    @property
    def sizes(self) -> Mapping[str, Any]:
        """The sizes of the indices of the operator's signature."""
        return self._inference.solution.extents

    @property
    def storages(self) -> Mapping[str, Storage]:
        """The storage of each weight, as the operator sees it.

        If the operator uses the transpose of a weight, this is `Dense`: the weight is decoded before it is transposed.
        """
        weights = self._onnx.graph.weights
        stored = {name: weights[path].storage for name, path in self._node.weights.items()}
        return stored | dict.fromkeys(self._node.transposed, Dense())

    @overload
    def add(self, op_type: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any) -> tuple[str, ...]: ...
    @overload
    def add(self, op_type: str, *inputs: str, domain: str = "", **attributes: Any) -> str: ...
    def add(
        self, op_type: str, *inputs: str, outputs: int | None = None, domain: str = "", **attributes: Any
    ) -> str | tuple[str, ...]:
        """Add a node; return the name of its result, or a tuple of names if `outputs` is given."""
        name = self._onnx.fresh(f"{self._prefix}/{op_type}")
        names = (name,) if outputs is None else tuple(f"{name}.{k}" for k in range(outputs))
        if domain == CONTRIB_DOMAIN and not self.contributed:
            raise OperatorError(
                "no-onnx-form",
                f"the ONNX standard has no form of `{self._node.op.name}`: it needs `{domain}.{op_type}`",
                help="allow operators of ONNX Runtime: leave out `--onnx standard`",
            )
        self._made.append(self._nodes.new(op_type, inputs, names, attributes, domain, name))
        return name if outputs is None else names

    def scan(
        self,
        first: Sequence[tuple[str, TensorType]],
        sequences: Sequence[tuple[str, TensorType]],
        step: ScanStep,
        reverse: bool = False,
    ) -> tuple[Sequence[str], Sequence[str]]:
        """Add a `Scan`; return the names of its last states and of its stacked results."""
        title, inner, body = f"{self._prefix}/scan", self._onnx.body(), onnx.GraphProto()
        body.name = self._onnx.node_name(f"{title}/step")
        around = self._made, self._nodes
        self._made, self._nodes = [], inner
        with self._onnx.within(inner):
            entered = [self._onnx.fresh(f"{title}/state") for _ in first]
            entered += [self._onnx.fresh(f"{title}/element") for _ in sequences]
            for name, (_, type) in zip(entered, (*first, *sequences), strict=True):
                self._onnx.declare(body.input.add(), name, type)
            following, kept = step(entered[: len(first)], entered[len(first) :])
            for node in self._made:
                inner.append(node)
            states = [(name, type) for name, (_, type) in zip(following, first, strict=True)]
            finish_body(self._onnx, body, [*states, *kept], title)
        self._made, self._nodes = around
        self._nodes.capture(inner)
        results = self.add(
            "Scan",
            *(name for name, _ in (*first, *sequences)),
            outputs=len(first) + len(kept),
            body=body,
            num_scan_inputs=len(sequences),
            scan_input_directions=[1] * len(sequences) if reverse else None,
            scan_output_directions=[1] * len(kept) if reverse else None,
        )
        return results[: len(first)], results[len(first) :]

    def constant(self, value: Any, dtype: DType | None = None) -> str:
        """The name of a constant."""
        return self._onnx.constant(value, dtype)

    def size(self, dim: int | SymbolicDim) -> str:
        """The name of a size as an i64 scalar."""
        return self._sizes.scalar(dim)

    def shape(self, dims: Sequence[int | SymbolicDim]) -> str:
        """The name of a shape as an i64 vector."""
        return self._sizes.shape(dims)

    def reshape(self, value: str, dims: Sequence[int | SymbolicDim]) -> str:
        """Add a `Reshape`; return the name of its result."""
        known = self._onnx.types.get(value)
        sizes, zeros = self._sizes.reshaped(dims, known.shape if known else ())
        return self.add("Reshape", value, sizes, allowzero=1 if zeros else None)

    def quantized(self, position: int) -> QuantizedValue | None:
        """The quantized form of an operand; None if no `dequantize` computes the operand, or a cast follows."""
        if self._widened(position):
            return None  # integer kernels do not match an operand with a cast after its dequantization
        return self._values.quantized(self._node.operands[position])

    def _widened(self, position: int) -> bool:
        return self.types[position].dtype is not self._node.operands[position].type.dtype

    def _operand(self, position: int) -> str:
        name = self._values[self._node.operands[position]]
        if not self._widened(position):
            return name
        if position not in self._casts:
            self._casts[position] = self.add("Cast", name, to=self.types[position].dtype)
            self._before[self._casts[position]] = name, self._node.operands[position].type.dtype
        return self._casts[position]

    def _weight(self, name: str) -> str:
        path = self._node.weights[name]
        kept = self._decoded.transposed(path) if name in self._node.transposed else self._decoded[path]
        return self._of_dtype(name, kept)

    def _of_dtype(self, name: str, kept: str) -> str:
        """The name of a weight's value in the dtype in which the operator is computed."""
        have = self._onnx.graph.weights[self._node.weights[name]].dtype
        dtype = self._inference.parameters[name].dtype if self._has_casts else have
        made = self._decoded.cast(kept, have, dtype)
        self._before[made] = kept, have
        return made

    def finished(self, names: Sequence[str]) -> Sequence[str]:
        """The names of the results, after they are cast to their dtypes in the graph."""
        wanted = [value.type.dtype for value in self._node.results]
        return [
            name if made.dtype is dtype else self._cast_back(name, dtype)
            for name, made, dtype in zip(names, self.results, wanted, strict=True)
        ]

    def _cast_back(self, name: str, dtype: DType) -> str:
        """Cast a result to a dtype, and return its name.

        If the result is only a cast of an operand or weight that has this dtype, return the name of that operand or
        weight instead.
        """
        before, have = self._before.get(name, (name, None))
        return before if have is dtype else self.add("Cast", name, to=dtype)

    def stored(self, name: str) -> tuple[str, ...]:
        """The names of the stored tensors of a weight."""
        return self._onnx.stored(self._node.weights[name])

    def oriented(self, name: str) -> tuple[str, bool]:
        """The name of a weight as stored, and whether the operator uses its transpose."""
        kept = self._decoded[self._node.weights[name]]
        return self._of_dtype(name, kept), name in self._node.transposed

    def transposed(self, name: str) -> str:
        """The name of the transpose of a weight matrix."""
        path = self._node.weights[name]
        kept = self._decoded[path] if name in self._node.transposed else self._decoded.transposed(path)
        return self._of_dtype(name, kept)

    def dequantized(self, name: str) -> str:
        """The name of a weight for integer kernels; see `DecodedWeights.dequantized`."""
        return self._decoded.dequantized(self._node.weights[name])

    def blocks(self, name: str, size: int) -> tuple[str, str, str]:
        """The names of the integers, scales and zero points of a weight of int4; see `DecodedWeights.blocks`."""
        return self._decoded.blocks(self._node.weights[name], size)

    def integer_bias(self, operand: QuantizedValue) -> str | None:
        """The name of the bias in integers; empty without a bias, None if the bias has no integer form."""
        paths = self._node.weights
        return self._decoded.integer_bias(paths["bias"], paths["weight"], operand.scale) if "bias" in paths else ""

    def rows(self, name: str, indices: str, rank: int) -> str:
        """The name of selected rows of a weight matrix; only these are decoded, if the storage permits it."""
        storage, path = self.storages[name], self._node.weights[name]
        if isinstance(storage, Int8):
            table, scale = self.stored(name)
            rows = self.add("Cast", self.add("Gather", table, indices, axis=0), to=self.results[0].dtype)
            if storage.axis == 0:
                scale = self.add("Unsqueeze", self.add("Gather", scale, indices, axis=0), self.constant([-1]))
            return self.add("Mul", rows, scale)
        if isinstance(storage, PackedIntegers) and storage.axis == 0:
            decoder = PackedDecoder(self.add, self.constant, storage, self._onnx.graph.weights[path].shape)
            return decoder.rows([self.add("Gather", part, indices, axis=0) for part in self.stored(name)], rank)
        if isinstance(storage, NarrowFloat):
            rows = self.add("Gather", self.stored(name)[0], indices, axis=0)
            return self.add("Cast", rows, to=self.results[0].dtype)
        return self.add("Gather", self.weights[name], indices, axis=0)

    def rename(self, old: str, new: str) -> bool:
        """Rename a result of the nodes added so far; return False for any other value."""
        for node in self._made:
            for value in node.results:
                if value.name == old:
                    self._nodes.rename(value, new)
                    return True
        return False

    def insert(self) -> None:
        """Insert the nodes into the graph; a single node has the name of the layer."""
        if len(self._made) == 1:
            self._made[0].name = self._prefix
        for node in self._made:
            self._nodes.append(node)


class _LazySequence(Sequence[str]):
    """A sequence of names, each computed when it is read."""

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
    """A mapping to names, each computed when it is read."""

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


class ValueNames:
    """Names of values: the name in the user's text, else the path of the layer, else the operator's name.

    Args:
        onnx: the graph under construction.
        spell: adds the ONNX nodes of a node, and assigns the names of its results.
    """

    def __init__(self, onnx: OnnxGraph, spell: Callable[[Node], None]):
        self._onnx, self._spell = onnx, spell
        self._names: dict[Value, str] = {}
        self._outputs: dict[Value, str] = {}
        self._postponed: dict[Value, tuple[Node, OnnxNodes]] = {}  # node, and the graph or body of its ONNX nodes

    def __getitem__(self, value: Value) -> str:
        """The name of a value; if the node that computes it is postponed, add this node first."""
        if value not in self._names and value in self._postponed:
            node, nodes = self._postponed[value]
            with self._onnx.within(nodes):
                self._spell(node)
        return self._names[value]

    def assign(self, value: Value, name: str, type: TensorType | None = None) -> str:
        """Give a value a name; if the name has a type already, that type is kept."""
        self._names[value] = name
        if type is not None:
            self._onnx.types.setdefault(name, type)
        return name

    def reserve(self, value: Value, output: str) -> None:
        """Reserve the name of a model output for its value."""
        self._outputs.setdefault(value, output)

    def is_output(self, value: Value) -> bool:
        """Return whether a value must have the name of a model output."""
        return value in self._outputs

    def postpone(self, node: Node) -> None:
        """Add no ONNX nodes for a node until the name of a result is first read."""
        for value in node.results:
            self._postponed[value] = node, self._onnx.nodes

    def name_for(self, value: Value, node: Node) -> str:
        """Choose the name of a result of a node."""
        if value in self._outputs:
            return self._outputs[value]
        if value.name is not None:
            return self._onnx.fresh(self._onnx.scoped.name_in(node.scope, value.name))
        name = self._onnx.scoped.layer(node)
        return self._onnx.fresh(name if len(node.results) == 1 else f"{name}.{value.index}")

    def quantized(self, value: Value) -> QuantizedValue | None:
        """The quantized form of a value; see `OnnxSpelling.quantized`."""
        if value not in self._postponed:
            return None
        node, _ = self._postponed[value]
        integers, scales, zeros = (operand.type for operand in node.operands)
        if zeros.rank or (scales.rank and scales.shape != integers.shape[:-1]):
            return None
        q, scale, zero_point = (self[operand] for operand in node.operands)
        by_token = scales.rank > 0
        static = not by_token and all(name in self._onnx.initializers for name in (scale, zero_point))
        return QuantizedValue(q, scale, zero_point, static, by_token)
