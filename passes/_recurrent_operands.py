"""Choice of the recurrent layers whose operands are quantized in each run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from archc.analysis.layers import Layer
from archc.interpreter.evaluate import bind_sizes, evaluate_all, run_node
from archc.ir.graph import Graph, Node
from archc.ops.recurrent import Recurrent
from archc.passmanager import Context
from archc.types.storage import Int8
from archc.weights.dtype_conversion import to_torch

if TYPE_CHECKING:
    import torch

LARGEST_ERROR = 0.05
"""Largest relative error of the result, in the Euclidean norm, from the operands of one layer.

An operand has one scale.  If a few elements are far larger than the others, most others become zero.  In the speaker
encoder, whose inputs are powers, the error is 0.76 in the first layer and at most 0.013 in the others, which get
states between -1 and 1; `benchmarks.speaker` prints the remark with this error.
"""


def quantizes_inside(layer: Layer) -> bool:
    """Return whether kernels of a layer can quantize its operands."""
    return isinstance(layer.op, Recurrent)


def computes_in_integers(layer: Layer) -> bool:
    """Return whether `quantize_inside` has chosen a layer."""
    return isinstance(layer.op, Recurrent) and bool(layer.op.dynamic)


def quantize_inside(graph: Graph, context: Context, layer: Layer, limits: Mapping[str, int]) -> None:
    """Set `dynamic` to the layers that become faster and stay accurate, with notes.

    Without calibration data, these are layers whose operand is the result of another one.

    Args:
        limits: multiply-adds of a layer in a step from which int8 is faster, by operator, for the operators that the
            runtimes can compute in integers.
    """
    op = layer.op
    assert isinstance(op, Recurrent)
    least, work = limits.get(op.name), _work_in_a_step(layer.node, op)
    in_integers = [_has_integer_weights(graph, layer.node, number) for number in range(op.num_layers)]
    fast = [
        number for number in range(op.num_layers) if least is not None and in_integers[number] and work[number] >= least
    ]
    if not fast:
        context.note(layer.path, f"its operands stay in floats: {_reason(least, in_integers, work)}")
        return
    if context.calibration.real:
        errors = _errors(graph, context, layer.node, op, fast)
        chosen = tuple(number for number in fast if errors[number] <= LARGEST_ERROR)
        for number in fast:
            if number not in chosen:
                context.note(
                    layer.path,
                    f"operands of layer {number} stay in floats: 8 bits change the result by {errors[number]:.0%}",
                )
    else:
        chosen = tuple(number for number in fast if number)
        if 0 in fast:
            context.note(layer.path, "operands of layer 0 stay in floats: calibration data would show their range")
    if chosen:
        for node in layer.nodes:
            context.rewriter.set_operator(node, replace(op, dynamic=chosen))
        numbers = ", ".join(map(str, chosen))
        context.note(
            layer.path,
            f"operands are quantized in each run in the layers {numbers}, which compute in integers",
        )


def _reason(least: int | None, in_integers: list[bool], work: list[int]) -> str:
    if least is None:
        return "no emitted program would compute them in integers"
    if not any(in_integers):
        return "no layer has int8 weights"
    most = max(macs for macs, fits in zip(work, in_integers) if fits)
    return f"with {most:,} multiply-adds in a step, integers would be slower; they pay from {least:,} on"


def _has_integer_weights(graph: Graph, node: Node, layer: int) -> bool:
    """Return whether all weights of one layer are int8, with one scale or a scale for each row."""
    names = (f"weight_{kind}_l{layer}{suffix}" for kind in ("ih", "hh") for suffix in ("", "_reverse"))
    paths = [node.weights[name] for name in names if name in node.weights]
    return all(graph.weights[path].storage in (Int8(0), Int8(None)) for path in paths)


def _work_in_a_step(node: Node, op: Recurrent) -> list[int]:
    """Multiply-adds of each layer, in one direction, for one element of a sequence."""
    width = node.types[0].shape[2]
    assert isinstance(width, int), "weights have known sizes"
    inner = (1 + op.bidirectional) * op.hidden_size
    widths = (inner if layer else width for layer in range(op.num_layers))
    return [op.gates * op.hidden_size * (op.hidden_size + entering) for entering in widths]


def _errors(graph: Graph, context: Context, node: Node, op: Recurrent, layers: list[int]) -> dict[int, float]:
    """Relative error of the result if one layer quantizes its operands, on the first batch."""
    batch = next(context.calibration.batches())
    sizes = bind_sizes(graph, {name: tuple(tensor.shape) for name, tensor in batch.items()})
    wanted = set(node.operands)
    tensors = {value: tensor for value, tensor in evaluate_all(graph, batch, wanted) if value in wanted}
    operands = [tensors[value] for value in node.operands]
    weights = {path: to_torch(graph.weight_values(path)) for path in node.weights.values()}

    def result(dynamic: tuple[int, ...]) -> torch.Tensor:
        context.rewriter.set_operator(node, replace(op, dynamic=dynamic))
        return run_node(node, operands, weights, sizes)[0].double()

    expected = result(())
    errors = {layer: float((result((layer,)) - expected).norm() / (expected.norm() or 1.0)) for layer in layers}
    context.rewriter.set_operator(node, op)
    return errors
