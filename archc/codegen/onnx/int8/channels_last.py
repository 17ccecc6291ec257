"""Flattening in channels-last order, which saves a transposition in ONNX Runtime.

Integer convolutions and pools of ONNX Runtime compute in channels-last layout, and transpose their results for other
operators.  If a `Flatten` and a matrix product follow, the operand of the `Flatten` is transposed back to channels-last
layout, and the columns of the product's weight are permuted.  ONNX Runtime then removes the two inverse transpositions.
The results are equal, since sums of integers are exact in any order.
In the digit classifier at batch 32 (Emerald Rapids, one thread) the rewrite saves 10 µs of 530.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection

from archc.codegen.onnx.decode import DecodedWeights
from archc.codegen.onnx.onnx_graph import NodeRecord, OnnxGraph
from archc.frozen_dataclass import frozen_dataclass

LARGEST = 1_000_000
"""Largest weight to rewrite, in elements.

A product with a larger weight takes much longer than the transposition.
"""


@frozen_dataclass
class Flattened:
    """A flattening of integers and the product after it.

    Attributes:
        title: the name of the flattened value.
        decoder: the node that dequantizes the operand of the flattening.
        weight: the node that dequantizes the weight of the product.
        extents: the numbers of channels, rows and columns before the flattening.
    """

    title: str
    decoder: NodeRecord
    weight: NodeRecord
    extents: tuple[int, ...]


def flatten_channels_last(
    weights: DecodedWeights, records: list[NodeRecord], outputs: Collection[str]
) -> list[NodeRecord]:
    """Flatten in channels-last order; some nodes are changed in place.

    Args:
        weights: receives the weights in their new order.
        records: the nodes in topological order.
        outputs: the names that are used outside these nodes.
    """
    onnx = weights.onnx
    producers = {name: record for record in records for name in record.outputs}
    uses = Counter(name for record in records for name in record.inputs)
    uses.update(outputs)
    before: dict[int, NodeRecord] = {}
    for gemm in records:
        found = _flattened(onnx, gemm, producers, uses) if gemm.op_type == "Gemm" else None
        if found is not None:
            name = onnx.fresh(f"{found.title}/Transpose")
            moved = NodeRecord("Transpose", [found.decoder.inputs[0]], [name], {"perm": [0, 2, 3, 1]}, name=name)
            found.decoder.inputs[0] = name
            before[id(found.decoder)] = moved
            _reorder(onnx, found)
    return [one for record in records for one in (before.get(id(record)), record) if one is not None]


def _reorder(onnx: OnnxGraph, found: Flattened) -> None:
    """Permute the columns of the product's weight."""
    path = found.weight.inputs[0]
    values = onnx.tensors[path].numpy()
    ordered = values.reshape(-1, *found.extents).transpose(0, 2, 3, 1).reshape(values.shape)
    found.weight.inputs[0] = onnx.derived(f"{path}/channels_last", ordered)
    onnx.initializers.drop(path)


def _flattened(
    onnx: OnnxGraph, gemm: NodeRecord, producers: dict[str, NodeRecord], uses: Counter[str]
) -> Flattened | None:
    """The flattening of an integer convolution's result before a product; None if there is none."""
    weight, decoded = producers.get(gemm.inputs[1]), gemm.inputs[0]
    chain = []
    for op_types in (("DequantizeLinear",), ("QuantizeLinear",), ("Flatten", "Reshape"), ("DequantizeLinear",)):
        record = producers.get(decoded)
        if record is None or record.op_type not in op_types or uses[decoded] != 1:
            return None
        chain.append(record)
        decoded = record.inputs[0]
    _, _, flatten, decoder = chain
    quantizer = producers.get(decoded)
    if quantizer is None or quantizer.op_type != "QuantizeLinear" or uses[decoded] != 1:
        return None
    if any(record.attributes.get("axis") is not None for record in (quantizer, decoder, *chain[:2])):
        return None
    if gemm.attributes != {"transB": 1} or weight is None or not _is_own(onnx, weight, uses):
        return None
    image, flat = onnx.types.get(quantizer.inputs[0]), onnx.types.get(flatten.outputs[0])
    if image is None or image.rank != 4 or flat is None or flat.rank != 2:
        return None
    extents = tuple(size for size in image.shape[1:] if isinstance(size, int))
    if len(extents) != 3 or math.prod(extents[1:]) == 1 or math.prod(extents) != flat.shape[1]:
        return None
    return Flattened(flatten.outputs[0], decoder, weight, extents) if _is_of_integers(quantizer, producers) else None


def _is_own(onnx: OnnxGraph, weight: NodeRecord, uses: Counter[str]) -> bool:
    """Return whether a weight is decoded from integers, has one use, and is not too large."""
    if weight.op_type != "DequantizeLinear" or uses[weight.outputs[0]] != 1 or uses[weight.inputs[0]] != 1:
        return False
    if weight.inputs[0] not in onnx.initializers or weight.attributes.get("axis") not in (None, 0):
        return False
    return onnx.tensors[weight.inputs[0]].size <= LARGEST


def _is_of_integers(quantizer: NodeRecord, producers: dict[str, NodeRecord]) -> bool:
    """Return whether a quantizer's operand is the result of an integer convolution, pooled or not pooled."""
    record: NodeRecord | None = quantizer
    while record is not None and record.op_type in ("MaxPool", "QuantizeLinear", "Relu"):
        record = producers.get(record.inputs[0])
    if record is None or record.op_type != "Conv":
        return False
    weight = producers.get(record.inputs[1])
    return weight is not None and weight.op_type == "DequantizeLinear"
