"""Rewrites of quantized models that let ONNX Runtime fuse integer kernels, with equal results.

ONNX Runtime finds its integer kernels by patterns: an operator between `DequantizeLinear` and `QuantizeLinear`.  Four
rewrites produce these patterns.  A *move* is an operator that takes the elements of its result from its operand and
computes no new ones, such as `Reshape`.  Quantization can therefore precede or follow a move.
`archc.codegen.onnx.rewrites` lists the rewrites.
"""

from __future__ import annotations

from collections.abc import Iterable

from archc.codegen.onnx.nodes import OnnxNode, OnnxNodes, OnnxValue
from archc.codegen.onnx.onnx_graph import OnnxGraph
from archc.ir.match import Match, any_value, chain_before, pattern, result_of, unless
from archc.types.tensor_type import DType

MOVES = frozenset(("Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"))
"""Moves that keep all elements of their first operand."""

INT8_MOVES = MOVES | {"MaxPool", "Slice"}
"""Moves of int8 values, including those that select elements.

`Slice` selects elements by position, and `MaxPool` selects the largest element of each window.  Dequantization is
monotone, so the largest integer of a window becomes its largest float.  ONNX Runtime propagates quantization through
all of these except `Flatten`.
"""

DEQUANTIZE, QUANTIZE = "DequantizeLinear", "QuantizeLinear"


def _has_one_scale(node: OnnxNode) -> bool:
    """Return whether a quantizer or dequantizer has one scale for the tensor.

    Scales along an axis are left out: before a move, the axis may have another index.
    """
    return node.attribute("axis") is None


def _is_int8(node: OnnxNode) -> bool:
    zero_point = node.operands[2] if len(node.operands) > 2 else None
    return zero_point is not None and zero_point.constant is DType.i8 and _has_one_scale(node)


def _varies(value: OnnxValue) -> bool:
    return value.constant is None


_DECODED_WEIGHT = result_of(pattern(DEQUANTIZE))

RELU_OF_INTEGERS = pattern("Relu", result_of(pattern(("Conv", "Gemm"), any_value(), _DECODED_WEIGHT)))


def replace_relu(onnx: OnnxGraph, node: OnnxNode, found: Match) -> None:
    """Replace the `Relu` of an integer product by a `Max` with zero, if no quantizer follows.

    ONNX Runtime would fuse the product and the `Relu` into a float product, which decodes its weight in each run.
    """
    nodes = onnx.nodes
    if not _is_quantized(nodes, node.results[0]):
        nodes.set_kind(node, "Max")
        nodes.set_operand(node, 1, nodes.value(onnx.constant(0.0)))


def _is_quantized(nodes: OnnxNodes, value: OnnxValue) -> bool:
    """Return whether a value is quantized, at once or after moves and pools."""
    for consumer in nodes.uses.consumers(value):
        if consumer.operands[0] is value:
            if consumer.kind == QUANTIZE and _has_one_scale(consumer):
                return True
            if consumer.kind in MOVES | {"MaxPool"} and _is_quantized(nodes, consumer.results[0]):
                return True
    return False


QUANTIZED_MOVE = pattern(QUANTIZE, result_of(pattern(INT8_MOVES), only_use=True), where=_has_one_scale)


def quantize_before_moves(onnx: OnnxGraph, node: OnnxNode, found: Match) -> None:
    """Insert another quantize/dequantize pair before the moves that a quantizer follows.

    ONNX Runtime would not find the quantizer after the layer before the moves.  With the pair, the layer has integer
    results.  Quantizing twice with the same scale and zero point has no further effect.
    """
    moves = pattern(INT8_MOVES if _is_int8(node) else MOVES)
    chain = list(chain_before(node.operands[0], moves, onnx.nodes.uses, only_use=True))
    if chain:
        parameters = _names(node.operands[1:])
        source = chain[-1].operands[0].name
        for kind in (QUANTIZE, DEQUANTIZE):
            _insert(onnx, chain[-1], kind, f"{source}/{kind}", parameters)


_FLOAT_CONV = pattern("Conv", any_value(), unless(_DECODED_WEIGHT))

QUANTIZED_POOL = pattern(
    QUANTIZE,
    result_of(pattern("MaxPool", result_of(pattern("Relu", result_of(_FLOAT_CONV))))),
    where=_has_one_scale,
)


def clip_after_pool(onnx: OnnxGraph, node: OnnxNode, found: Match) -> None:
    """Insert a second `Relu` before the quantizer of a pooled float convolution.

    The `Relu` changes no value, since another one is before the `MaxPool`.  Without it, ONNX Runtime would quantize
    before the pool, and the pool would use a slow integer kernel.
    """
    (source,) = _names(node.operands[:1])
    _insert(onnx, node, "Relu", f"{source}/Relu", [])


def _insert(onnx: OnnxGraph, target: OnnxNode, kind: str, name: str, further: list[str]) -> None:
    """Insert a node before the first operand of another node.

    Args:
        further: names of the operands after the first one.
    """
    nodes, source = onnx.nodes, target.operands[0]
    assert source is not None
    node = nodes.new(kind, [source.name, *further], [onnx.fresh(name)])
    nodes.insert_before(node, target)
    nodes.set_operand(target, 0, node.results[0])


MOVED_INT8 = pattern(
    INT8_MOVES,
    result_of(pattern(DEQUANTIZE, any_value(where=_varies), where=_is_int8, bind="decoder")),
)


def dequantize_after_move(onnx: OnnxGraph, node: OnnxNode, found: Match) -> None:
    """Dequantize int8 after a move, not before it.

    Before a move, ONNX Runtime 1.31 inserts a `QuantizeLinear` with `output_dtype` INT8 after the move, so that the
    move runs on integers.  Then it converts int8 to uint8, but does not change `output_dtype`, and refuses its own
    graph.  If the `DequantizeLinear` already follows the move, ONNX Runtime inserts nothing.
    """
    nodes, decoder = onnx.nodes, found["decoder"]
    (result,) = node.results
    integers = onnx.fresh(f"{result.name}/int8")
    nodes.release(result, integers)
    name = onnx.fresh(f"{result.name}/decode")
    after = nodes.new(DEQUANTIZE, [integers, *_names(decoder.operands[1:])], [result.name], name=name)
    nodes.insert_after(after, node)
    nodes.set_operand(node, 0, decoder.operands[0])
    if nodes.is_unused(decoder.results[0]):
        nodes.remove(decoder)


def _names(values: Iterable[OnnxValue | None]) -> list[str]:
    return [value.name for value in values if value is not None]
