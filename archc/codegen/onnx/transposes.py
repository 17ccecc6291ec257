"""Weights that a model stores transposed.

A `MatMul` multiplies by the transpose of a linear layer's weight.  ONNX Runtime runs a `Transpose` of a weight once,
when it loads the model.  Its quantizer (`onnxruntime.quantization.quantize_dynamic`), however, quantizes a `MatMul`
only if the second operand is an initializer.  So a model with its own copy of the weights stores the transpose, under
the name `fc.weight/T`.

A matrix with other uses, such as the table of an embedding, is stored once, and its `Transpose` stays.
"""

from __future__ import annotations

from archc.codegen.onnx.initializers import TRANSPOSED
from archc.codegen.onnx.nodes import OnnxNode
from archc.codegen.onnx.onnx_graph import OnnxGraph
from archc.ir.match import Match, pattern


def _has_name_of_transpose(node: OnnxNode) -> bool:
    matrix = node.operands[0]
    return matrix is not None and node.results[0].name == matrix.name + TRANSPOSED


TRANSPOSE = pattern("Transpose", where=_has_name_of_transpose)
"""The transpose of a stored weight, as `DecodedWeights.transposed` adds it."""


def store_transpose(onnx: OnnxGraph, node: OnnxNode, found: Match) -> None:
    """Replace the `Transpose` of a stored matrix by an initializer, unless the matrix has other uses."""
    (matrix,), (result,) = node.operands, node.results
    assert matrix is not None
    if onnx.owns_weights and matrix.name in onnx.initializers and onnx.nodes.uses.only_consumer(matrix) is node:
        onnx.initializers.transpose(matrix.name, result.name)
        onnx.nodes.remove(node)
