"""Integer operators without weights between integer layers, such as residual additions.

Such an operator has the trait `INTEGER_KERNEL`.  Its operands and its result get `quantize`/`dequantize` pairs, so that
the values between two integer layers stay in bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from archc.compression.quantization.ranges import Range
from archc.declaration.traits import CLIPS, INTEGER_KERNEL, LAYOUT_ONLY, RELU
from archc.ir.graph import Graph, Node, Value
from archc.ir.match import chain_before
from archc.passmanager import Context
from archc.types.tensor_type import DType

from ._quantized_values import (
    MOVING,
    PASSING_ON,
    passes_on,
    quantized_operands,
    quantized_result,
    reaches,
    returns_integers,
)


def integer_operators(graph: Graph, layers: Collection[Node], excluded: Collection[Node] = ()) -> list[Node]:
    """Operators with integer kernels between integer layers, in order.

    All operands of such an operator are integers: results of integer kernels, or operands of integer layers.  An
    operator that only moves elements, such as `concat`, needs one such operand.  Its other operands are quantized like
    the result, which has the same error as quantizing the result.  An integer layer uses the result, possibly after
    further such operators.

    Linear layers return integers to other integer layers only, so the residual additions of transformers stay in
    floats.

    Args:
        layers: the nodes of the layers with statically quantized operands.
        excluded: operators that stay in floats.
    """
    integers = {node.operands[0] for node in layers}
    integers.update(node.result for node in layers if returns_integers(node))
    found: list[Node] = []
    for node in graph.nodes():
        if passes_on(graph, node) and node.operands[0] in integers:
            integers.add(node.result)
        elif _has_integer_kernel(node) and node not in excluded:
            enough = any if node.op.has(LAYOUT_ONLY) else all
            if enough(operand in integers for operand in node.operands):
                found.append(node)
                integers.add(node.result)
    wanted = set(layers)
    for node in reversed(found):
        if reaches(graph, node.result, wanted):
            wanted.add(node)
    return [node for node in found if node in wanted]


def _has_integer_kernel(node: Node) -> bool:
    return node.op.has(INTEGER_KERNEL) and len(node.operands) > 1 and node.result.type.dtype is DType.f32


def operators_without_range(
    operators: Iterable[Node], results: Mapping[Value, Node], ranges: Mapping[Value, Range]
) -> list[Node]:
    """Operators with an operand or a result that has no finite range in the calibration data."""
    made: dict[Node, list[Value]] = {}
    for value, node in results.items():
        made.setdefault(node, []).append(value)
    return [
        node
        for node in operators
        if not all(ranges[value].finite for value in (*quantized_operands(node), *made.get(node, ())))
    ]


def remark_on_operators(graph: Graph, context: Context, operators: Collection[Node]) -> None:
    """Add a note with the number of operators that compute on integers."""
    counts = Counter(node.op.name for node in operators)
    if counts:
        text = " and ".join(f"{count} `{name}`" for name, count in counts.items())
        context.note(graph.name, f"between integer layers, {text} on integers")


def share_ranges(
    graph: Graph,
    layers: Collection[Node],
    operators: Sequence[Node],
    results: Mapping[Value, Node],
    ranges: Mapping[Value, Range],
) -> dict[Value, Range]:
    """Ranges that values share if they only differ by data movement, and if this costs no accuracy.

    - The operands of a `concat` get the range of its result, so that its kernel copies bytes.  An operand with other
      uses keeps its own range, which is finer.
    - A moved result of an integer kernel gets the range of this result, so that the movement is computed on bytes.

    Args:
        layers: the nodes of the layers with statically quantized operands.
        operators: the other nodes with quantized operands, in order.
        results: the values that are quantized for all uses.
    """
    integer = dict.fromkeys((*layers, *operators))
    shared = dict(ranges)
    for node in reversed(operators):
        if node.op.has(LAYOUT_ONLY):
            common = shared[quantized_result(graph, node, integer)]
            for operand in node.operands:
                if graph.only_consumer(operand) is node and _keeps_clipping(graph, operand, shared[operand], common):
                    shared[operand] = common
    operands = (operand for node in integer for operand in quantized_operands(node))
    for value in dict.fromkeys((*operands, *results)):
        sources = [move.operands[0] for move in chain_before(value, MOVING, graph) if move.operands[0] in results]
        if sources:
            shared[value] = shared[sources[-1]]
    return shared


def _keeps_clipping(graph: Graph, value: Value, own: Range, common: Range) -> bool:
    """Return whether a common range still clips a value as the operators before it do.

    Otherwise, a runtime would compute these operators in floats.
    """
    clips = [node for node in chain_before(value, PASSING_ON, graph) if node.op.has(CLIPS)]
    if not clips:
        return True
    return own.low == common.low if all(node.op.has(RELU) for node in clips) else own == common
