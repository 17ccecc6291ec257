"""Weights that a model stores transposed.

A `MatMul` multiplies by the transpose of a linear layer's weight.  ONNX Runtime runs a `Transpose` of a weight once,
when it loads the model.  Its quantizer (`onnxruntime.quantization.quantize_dynamic`), however, quantizes a `MatMul`
only if the second operand is an initializer.  So a model with its own copy of the weights stores the transpose, under
the name `fc.weight/T`.

A matrix with other uses, such as the table of an embedding, is stored once, and its `Transpose` stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from archc.codegen.onnx.decode import DecodedWeights
from archc.codegen.onnx.onnx_graph import NodeRecord


def store_transposes(weights: DecodedWeights, records: list[NodeRecord], used: Collection[str]) -> list[NodeRecord]:
    """Replace each `Transpose` of a stored matrix by an initializer, unless the matrix has other uses.

    Args:
        records: the nodes in topological order.
        used: the names that are used outside these nodes.
    """
    if not weights.onnx.owns_weights or not weights.transposes:
        return records
    uses = Counter(name for record in records for name in record.inputs)
    uses.update(used)
    initializers = weights.onnx.initializers
    kept = []
    for record in records:
        name = record.outputs[0]
        if name in weights.transposes and record.inputs[0] in initializers and uses[record.inputs[0]] == 1:
            initializers.transpose(record.inputs[0], name)
        else:
            kept.append(record)
    return kept
