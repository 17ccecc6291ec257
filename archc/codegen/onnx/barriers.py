"""Copies between two nodes that ONNX Runtime would fuse wrongly.

A copy is a `Max` of one operand, which supports every dtype of these nodes, keeps all values, and matches no fusion.
Other no-ops do not prevent a fusion: ONNX Runtime removes `Identity`, `Dropout`, `Cast` and an empty `Pad` before the
fusions run.  Each pattern of this module is a wrong fusion of ONNX Runtime 1.31.  `archc.codegen.onnx.rewrites` lists
the patterns.
"""

from __future__ import annotations

from archc.codegen.onnx.equal_quantizers import have_equal_grids
from archc.codegen.onnx.nodes import OnnxNode, OnnxValue
from archc.codegen.onnx.onnx_graph import OnnxGraph
from archc.ir.match import (
    PASSED,
    Match,
    NodePattern,
    ValuePattern,
    all_of,
    any_value,
    one_of,
    pattern,
    result_of,
    unless,
)
from archc.types.tensor_type import DType

GUARDED = "guarded"
"""Name in patterns for the operand that a copy replaces."""

_DECODER = "DequantizeLinear"
_MOVES = ("Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that ONNX Runtime moves past a multiplication, fuses into a product, or removes as no-ops."""
_REMOVED = ("Cast", "Dropout", "Expand", "Flatten", "Identity", "Pad", "Slice")
"""Operators that ONNX Runtime removes if they have no effect."""
_NEUTRAL = ("Add", "Div", "Mul", "Sub")
"""Operators that ONNX Runtime removes if one operand is a neutral constant, such as 0 for `Add`."""


def _varies(value: OnnxValue) -> bool:
    return value.constant is None


def _is_constant(value: OnnxValue) -> bool:
    return value.constant is not None


def _is_f64(value: OnnxValue) -> bool:
    return value.constant is DType.f64


def _has_axis(node: OnnxNode) -> bool:
    return node.attribute("axis") is not None


PASSING = one_of(
    pattern((*_MOVES, *_REMOVED)),
    pattern("Concat", where=lambda node: len(node.operands) == 1),  # removed; a kernel requantizes several operands
    pattern(_NEUTRAL, any_value(PASSED, where=_varies), any_value(where=_is_constant), commutative=True),
)
"""A node that passes the elements of an operand on, if ONNX Runtime may move or remove the node."""


# Copies --------------------------------------------------------------------------------------------------------


def separate(onnx: OnnxGraph, node: OnnxNode, found: Match) -> None:
    """Replace the guarded operand of a node by a copy, so that ONNX Runtime does not fuse the node.

    The operand can have other consumers, which still use it directly.
    """
    _insert_copy(onnx, node, node.operands.index(found[GUARDED]))


def separate_from_other_grid(onnx: OnnxGraph, node: OnnxNode, found: Match) -> None:
    """Replace the operand of a quantizer by a copy, if the dequantizer before it has other parameters.

    The parameters are the scale and the zero point.
    """
    if not have_equal_grids(onnx, node, found["decoder"]):
        separate(onnx, node, found)


def separate_from_consumers(onnx: OnnxGraph, node: OnnxNode, found: Match) -> None:
    """Replace the result of a node by a copy of it in each use by another node."""
    (value,) = node.results
    for consumer in onnx.nodes.uses.consumers(value):
        for position, operand in enumerate(consumer.operands):
            if operand is value:
                _insert_copy(onnx, consumer, position)


def _insert_copy(onnx: OnnxGraph, node: OnnxNode, position: int) -> None:
    nodes, operand = onnx.nodes, node.operands[position]
    assert operand is not None
    copy = nodes.new("Max", [operand.name], [onnx.fresh(f"{node.results[0].name}/Max")])
    nodes.insert_before(copy, node)
    nodes.set_operand(node, position, copy.results[0])


# Wrong fusions -------------------------------------------------------------------------------------------------

QUANTIZED_ALONG_AN_AXIS = pattern("QuantizeLinear", any_value(GUARDED), where=_has_axis)
"""Activations that are quantized with a scale along an axis.

Integer kernels for activations support only a scalar scale.  ONNX Runtime selects them for a scale along an axis as
well, and then refuses the model.
"""

DEQUANTIZED_ALONG_AN_AXIS = pattern(_DECODER, any_value(where=_varies), where=_has_axis)
"""Activations that are dequantized with a scale along an axis; see `QUANTIZED_ALONG_AN_AXIS`."""

QUANTIZED_AGAIN = pattern("QuantizeLinear", result_of(pattern(_DECODER, bind="decoder"), through=PASSING, bind=GUARDED))
"""A quantizer after a dequantizer.

`DoubleQDQPairsRemover` merges two successive quantize/dequantize pairs of different scales.  The merged pair rounds
differently.
"""

FLOAT_WEIGHT = pattern(
    ("Conv", "ConvTranspose", "Gemm", "MatMul"),
    result_of(pattern(_DECODER), through=PASSING, bind=GUARDED),
    unless(result_of(pattern(_DECODER), through=PASSING)),
)
"""The product of a dequantized operand and a float weight.

`WeightBiasQuantization` rounds the weight to int8.
"""

PADDED_POOL = pattern(("AveragePool", "MaxPool"), result_of(pattern("Pad"), through=PASSING, bind=GUARDED))
"""A pool after a `Pad`.

`PadFusion` moves the padding of the `Pad` into the pool.  A max pool then ignores the padded zeros, and ONNX Runtime
refuses a pool whose padding is as large as its window.
"""


def _scaling(operand: ValuePattern, factor: ValuePattern) -> NodePattern:
    """Pattern for the multiplication or division of an operand by a constant factor."""
    return one_of(pattern("Mul", factor, operand, commutative=True), pattern("Div", operand, factor))


_OPERAND, _FACTOR = any_value(where=_varies), any_value(where=_is_constant)
_SCALED = result_of(_scaling(_OPERAND, _FACTOR), through=PASSING)
_SCALED_AND_UNSHARED = result_of(_scaling(_OPERAND, _FACTOR), through=PASSING, only_use=True)

SCALED_AGAIN = _scaling(all_of(any_value(GUARDED, where=_varies), _SCALED, unless(_SCALED_AND_UNSHARED)), _FACTOR)
"""A scaling of a value that is the result of another scaling and has other uses.

`MatMulScaleFusion` fuses constant factors into a matrix product.  Let y = 2 · x and z = 3 · y.  If one product uses y
and another product uses z, the fusion removes a node that is still used, and ONNX Runtime refuses the model.
"""

_F64_FACTOR = any_value(where=_is_f64, mark=DType.f64)
_SCALED_IN_F64 = result_of(_scaling(_OPERAND, _F64_FACTOR), through=PASSING, bind=GUARDED)

F64_PRODUCT_THEN_SCALED = _scaling(
    all_of(any_value(GUARDED, where=_varies), result_of(pattern("MatMul"), through=PASSING)), _F64_FACTOR
)
"""The scaling of a matrix product of f64: `MatMulScaleFusion` rounds the factor to f32."""

F64_SCALED_THEN_LEFT = pattern("MatMul", _SCALED_IN_F64)
"""A matrix product whose left operand is scaled in f64: `MatMulScaleFusion` rounds the factor to f32."""

F64_SCALED_THEN_RIGHT = pattern("MatMul", any_value(), _SCALED_IN_F64)
"""A matrix product whose right operand is scaled in f64; see `F64_SCALED_THEN_LEFT`."""
