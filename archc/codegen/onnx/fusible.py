"""Rewrites of quantized models that let ONNX Runtime fuse integer kernels, with equal results.

ONNX Runtime finds its integer kernels by patterns: an operator between `DequantizeLinear` and `QuantizeLinear`.  Four
rewrites produce these patterns.  A *move* is an operator that computes nothing and only rearranges elements, such as
`Reshape`.

- If a `QuantizeLinear` follows a move, insert another quantize/dequantize pair before the move.  The layer before the
  move then has integer results.  Quantizing twice with the same scale and zero point has no further effect.
- If a `QuantizeLinear` follows the `Relu` and the `MaxPool` of a float convolution, insert a second `Relu` after the
  pool, which changes no value.  Without the second `Relu`, ONNX Runtime would quantize before the pool, and the pool
  would use a slow integer kernel.
- If a `Relu` follows an integer product, and no `QuantizeLinear` follows the `Relu`, replace the `Relu` by a `Max` with
  zero.  ONNX Runtime would fuse the product and the `Relu` into a float product, which decodes its weight in each run.
- If a move follows a `DequantizeLinear` of int8, exchange the two.  `Slice` and `MaxPool` are also moves here:
  dequantization is monotone, so it commutes with the maximum.  Without this rewrite, ONNX Runtime 1.31 inserts a
  `QuantizeLinear` with `output_dtype` INT8 after the move, so that the move runs on integers.  Then it converts int8 to
  uint8, but does not change `output_dtype`, and refuses its own graph.  If the `DequantizeLinear` already follows the
  move, ONNX Runtime inserts nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from archc.codegen.onnx.initializers import UniqueNames
from archc.codegen.onnx.onnx_graph import NodeRecord

_MOVES = frozenset(("Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"))
"""Operators that only rearrange the elements of their first input."""


_PRODUCTS = frozenset(("Conv", "Gemm"))


def make_fusible(
    records: list[NodeRecord],
    outputs: Collection[str],
    names: UniqueNames,
    zero: Callable[[], str],
    is_int8: Callable[[str], bool],
) -> list[NodeRecord]:
    """Apply the first three rewrites; models without quantization are unchanged.

    Args:
        records: the nodes in topological order; changed in place.
        outputs: the names that are used outside these nodes.
        names: the names in use, to which new names are added.
        zero: returns the name of a constant 0 of f32.
        is_int8: returns whether the zero point with a given name is a stored int8 scalar.
    """
    # Quantizers with scales along an axis are left out: before a move, the axis may have another index.
    quantizers = [r for r in records if r.op_type == "QuantizeLinear" and r.attributes.get("axis") is None]
    if not quantizers:
        return records
    producers = {name: record for record in records for name in record.outputs}
    uses = Counter(name for record in records for name in record.inputs)
    uses.update(outputs)
    taken_up = _before_quantizers(quantizers, producers)
    for record in records:
        if record.op_type == "Relu" and record.outputs[0] not in taken_up:
            product = producers.get(record.inputs[0])
            if product is not None and product.op_type in _PRODUCTS and _is_quantized(product, producers):
                record.op_type = "Max"
                record.inputs.append(zero())
    before: dict[int, list[NodeRecord]] = {}
    for quantizer in quantizers:
        moved = _first_move(quantizer, producers, uses, INT8_MOVES if is_int8(quantizer.inputs[2]) else _MOVES)
        target = quantizer if moved is None else moved
        steps: list[tuple[str, list[str]]] = []
        if _is_pooled_in_floats(target.inputs[0], producers):
            steps.append(("Relu", []))
        if moved is not None:
            grid = quantizer.inputs[1:]
            steps += [("QuantizeLinear", grid), ("DequantizeLinear", grid)]
        before.setdefault(id(target), []).extend(_insert(steps, target, names))
    return [one for record in records for one in (*before.get(id(record), ()), record)]


def _insert(steps: list[tuple[str, list[str]]], target: NodeRecord, names: UniqueNames) -> list[NodeRecord]:
    """Insert nodes before the first input of `target`; a step is an operator and its further inputs."""
    source = target.inputs[0]
    new = []
    for op_type, further in steps:
        name = names.unique(f"{source}/{op_type}")
        new.append(NodeRecord(op_type, [target.inputs[0], *further], [name], {}, name=name))
        target.inputs[0] = name
    return new


def _first_move(
    quantizer: NodeRecord, producers: dict[str, NodeRecord], uses: Counter[str], moves: Collection[str]
) -> NodeRecord | None:
    """The first node in the chain of moves before a quantizer; results in the chain have no other uses."""
    found = None
    name = quantizer.inputs[0]
    while uses[name] == 1 and name in producers and producers[name].op_type in moves:
        found = producers[name]
        name = found.inputs[0]
    return found


def _before_quantizers(quantizers: list[NodeRecord], producers: dict[str, NodeRecord]) -> set[str]:
    """The operands of quantizers, and of the moves and pools before them."""
    found = set()
    for quantizer in quantizers:
        name = quantizer.inputs[0]
        found.add(name)
        while name in producers and producers[name].op_type in _MOVES | {"MaxPool"}:
            name = producers[name].inputs[0]
            found.add(name)
    return found


def _is_quantized(product: NodeRecord, producers: dict[str, NodeRecord]) -> bool:
    """Return whether the weight of a product is the result of a `DequantizeLinear`."""
    weight = producers.get(product.inputs[1])
    return weight is not None and weight.op_type == "DequantizeLinear"


def _is_pooled_in_floats(name: str, producers: dict[str, NodeRecord]) -> bool:
    """Return whether a value is the result of a `Conv` with a float weight, a `Relu` and a `MaxPool`."""
    for op_type in ("MaxPool", "Relu", "Conv"):
        record = producers.get(name)
        if record is None or record.op_type != op_type:
            return False
        name = record.inputs[0]
    assert record is not None
    return not _is_quantized(record, producers)


INT8_MOVES = frozenset(("Flatten", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"))
"""Moves of int8 values: the operators of `_MOVES`, `MaxPool` and `Slice`.

ONNX Runtime propagates quantization through all of these except `Flatten`.
"""


def decode_late(
    records: list[NodeRecord], outputs: Collection[str], names: UniqueNames, is_int8: Callable[[str], bool]
) -> list[NodeRecord]:
    """Apply the fourth rewrite: dequantize int8 after a move, not before it; return all nodes.

    Args:
        records: the nodes in topological order; changed in place.
        outputs: the names that are used outside these nodes.
        names: the names in use, to which new names are added.
        is_int8: returns whether the zero point with a given name is a stored int8 scalar.
    """
    decoded: dict[str, NodeRecord] = {}
    made: list[NodeRecord] = []
    for record in records:
        made.append(record)
        if record.op_type == "DequantizeLinear" and is_int8(record.inputs[2]):
            decoded[record.outputs[0]] = record
        elif record.op_type in INT8_MOVES and record.inputs[0] in decoded:
            before, result = decoded[record.inputs[0]], record.outputs[0]
            record.inputs[0], record.outputs[0] = before.inputs[0], names.unique(f"{result}/int8")
            inputs = [record.outputs[0], *before.inputs[1:]]
            after = NodeRecord("DequantizeLinear", inputs, [result], {}, name=names.unique(f"{result}/decode"))
            decoded[result] = after
            made.append(after)
    uses = Counter(name for record in made for name in record.inputs)
    uses.update(outputs)
    return [one for one in made if one.outputs[0] not in decoded or uses[one.outputs[0]]]
