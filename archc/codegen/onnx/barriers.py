"""Copies between two nodes that ONNX Runtime would fuse wrongly.

A copy is a `Max` of one operand, which supports every dtype of these nodes, keeps all values, and matches no fusion.
Other no-ops do not prevent a fusion: ONNX Runtime removes `Identity`, `Dropout`, `Cast` and an empty `Pad` before the
fusions run.  ONNX Runtime 1.31 has these wrong fusions:

- `MatMulScaleFusion` fuses constant factors into a matrix product.  Let y = 2 · x and z = 3 · y.  If one product uses y
  and another product uses z, the fusion removes a node that is still used, and ONNX Runtime refuses the model.  The
  fusion also rounds f64 factors to f32.
- `DoubleQDQPairsRemover` merges two successive quantize/dequantize pairs of different scales.  The merged pair rounds
  differently.
- Integer kernels for activations support only a scalar scale.  ONNX Runtime selects them for a scale along an axis as
  well, and then refuses the model.
- `PadFusion` moves the padding of a `Pad` into the pool after it.  A max pool then ignores the padded zeros, and ONNX
  Runtime refuses a pool whose padding is as large as its window.
- `WeightBiasQuantization` rounds a float weight to int8 if the other operand of the weight's product is dequantized.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from archc.codegen.onnx.initializers import Initializers, UniqueNames
from archc.codegen.onnx.onnx_graph import NodeRecord
from archc.types.tensor_type import DType

_DECODER = "DequantizeLinear"
_PRODUCTS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))
_POOLS = frozenset(("AveragePool", "MaxPool"))
_SCALES = frozenset(("Div", "Mul"))
_MOVES = frozenset(("Reshape", "Squeeze", "Transpose", "Unsqueeze"))
"""Operators that ONNX Runtime moves past a multiplication, fuses into a product, or removes as no-ops."""
_REMOVED = frozenset(("Cast", "Concat", "Dropout", "Expand", "Flatten", "Identity", "Pad", "Slice"))
"""Operators that ONNX Runtime removes if they have no effect."""
_NEUTRAL = frozenset(("Add", "Div", "Mul", "Sub"))
"""Operators that ONNX Runtime removes if one operand is a neutral constant, such as 0 for `Add`."""


def separate(
    records: list[NodeRecord], outputs: Collection[str], names: UniqueNames, constants: Initializers
) -> list[NodeRecord]:
    """Insert copies between nodes that must not be fused; return all nodes.

    Args:
        records: the nodes in topological order; changed in place.
        outputs: the names that are used outside these nodes.
        names: the names in use, to which the names of the copies are added.
    """
    surroundings = _Surroundings(records, outputs, constants)
    guarded = [sorted(set(surroundings.unsafe(record))) for record in records]
    made = []
    for record, positions in zip(records, guarded):
        for position in positions:
            name = names.unique(f"{record.outputs[0]}/Max")
            made.append(NodeRecord("Max", [record.inputs[position]], [name], {}, name=name))
            record.inputs[position] = name
        made.append(record)
    return made


class _Surroundings:
    """Producers and consumers of values, before copies are inserted."""

    def __init__(self, records: list[NodeRecord], outputs: Collection[str], constants: Initializers):
        self._producers = {name: record for record in records for name in record.outputs}
        self._uses = Counter(name for record in records for name in record.inputs)
        self._uses.update(outputs)
        self._constants = constants
        self._computed: dict[str, DType | None] = {}
        """For each value that is computed from initializers alone, the dtype of its node's first operand."""
        for record in records:
            if record.inputs and all(self._is_constant(name) for name in record.inputs if name):
                self._computed.update(dict.fromkeys(record.outputs, self._dtype(record.inputs[0])))

    def unsafe(self, record: NodeRecord) -> Iterator[int]:
        """The positions of a node's operands at which a copy must prevent a wrong fusion."""
        if record.op_type == "QuantizeLinear" and self._regrids(record):
            yield 0
        if record.op_type in _PRODUCTS and self._decodes_alone(record):
            yield 0
        if record.op_type in _POOLS and self._origin("Pad", record.inputs[0]) is not None:
            yield 0
        for number, name in enumerate(record.inputs):
            if self._is_decoded_along_an_axis(name) or (record.op_type == "MatMul" and self._is_scaled_in_f64(name)):
                yield number
        position = self._scaled(record)
        if position is not None and (self._is_scaled_again(record, position) or self._scales_f64(record, position)):
            yield position

    def _origin(self, op_type: str, name: str) -> NodeRecord | None:
        """The nearest `op_type` node before a value, past nodes that ONNX Runtime may move or remove; or None."""
        while name in self._producers:
            made = self._producers[name]
            if made.op_type == op_type:
                return made
            passed = self._passed(made)
            if passed is None:
                return None
            name = passed
        return None

    def _passed(self, record: NodeRecord) -> str | None:
        """The operand whose elements a node passes on, if ONNX Runtime may move or remove the node; else None."""
        if record.op_type in _MOVES | _REMOVED:
            return record.inputs[0]
        varying = [name for name in record.inputs if not self._is_constant(name)]
        return varying[0] if record.op_type in _NEUTRAL and len(varying) == 1 else None

    def _decodes_alone(self, product: NodeRecord) -> bool:
        """Return whether the first operand of a product is dequantized, and the second is not."""
        weight = product.inputs[1]
        integer = any(made.op_type == _DECODER for _, made in self._moved(weight))
        return self._origin(_DECODER, product.inputs[0]) is not None and not integer

    def _is_decoded_along_an_axis(self, name: str) -> bool:
        """Return whether an activation is dequantized with a scale along an axis."""
        made = self._producers.get(name)
        if made is None or made.op_type != _DECODER or made.attributes.get("axis") is None:
            return False
        return not self._is_constant(made.inputs[0])

    def _regrids(self, quantizer: NodeRecord) -> bool:
        """Return whether a quantizer has an axis, or other parameters than the dequantizer before it."""
        made = self._origin(_DECODER, quantizer.inputs[0])
        other = made is not None and made.inputs[1:] != quantizer.inputs[1:]
        return other or quantizer.attributes.get("axis") is not None

    def _is_scaled_again(self, record: NodeRecord, position: int) -> bool:
        """Return whether a node scales a value that is the result of another scaling and has other uses."""
        shared = False
        for name, made in self._moved(record.inputs[position]):
            shared |= self._uses[name] > 1
            if shared and self._scaled(made) is not None:
                return True
        return False

    def _scales_f64(self, record: NodeRecord, position: int) -> bool:
        """Return whether a node scales a matrix product of f64."""
        if self._dtype(record.inputs[1 - position]) is not DType.f64:
            return False
        return any(made.op_type == "MatMul" for _, made in self._moved(record.inputs[position]))

    def _is_scaled_in_f64(self, name: str) -> bool:
        for _, made in self._moved(name):
            position = self._scaled(made)
            if position is not None and self._dtype(made.inputs[1 - position]) is DType.f64:
                return True
        return False

    def _scaled(self, record: NodeRecord) -> int | None:
        """The position of the operand that a node multiplies or divides by a constant, or None."""
        if record.op_type not in _SCALES:
            return None
        known = [self._is_constant(name) for name in record.inputs]
        if known == [False, True]:
            return 0
        return 1 if known == [True, False] and record.op_type == "Mul" else None

    def _moved(self, name: str) -> Iterator[tuple[str, NodeRecord]]:
        """Yield a value and its producer; walk back through producers that ONNX Runtime may move or remove."""
        while name in self._producers:
            made = self._producers[name]
            yield name, made
            passed = self._passed(made)
            if passed is None:
                return
            name = passed

    def _is_constant(self, name: str) -> bool:
        return name in self._computed or self._constants.dtype_of(name) is not None

    def _dtype(self, name: str) -> DType | None:
        return self._computed[name] if name in self._computed else self._constants.dtype_of(name)
