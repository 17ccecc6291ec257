"""A `scan` in ONNX: one `Scan` node with a graph as its body.

The body captures values from outside, such as weights, by name.

The first axis of a sequence is the batch, and the second axis the steps.  The `Scan` runs along the first axis, so a
`Transpose` before and after the `Scan` exchanges the two axes.  A `Scan` along the second axis would be no faster,
since ONNX Runtime transposes inside it, and would divide by zero if a sequence is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx

from archc.codegen.onnx.node_spelling import ValueNames
from archc.codegen.onnx.nodes import OnnxNode, OnnxNodes
from archc.codegen.onnx.onnx_graph import OnnxGraph
from archc.codegen.onnx.scan_bodies import finish_body
from archc.ir.graph import Node
from archc.ir.scans import Scan


def add_scan(
    onnx_graph: OnnxGraph, values: ValueNames, scan: Scan, emit: Callable[[Sequence[Node | Scan]], None]
) -> None:
    """Emit a scan, and name its results.

    Args:
        emit: emits the nodes and scans of the body.
    """
    nodes, inner = onnx_graph.nodes, onnx_graph.body()
    entering = scan.enter.results[1:]
    items, states = entering[: len(scan.sequences)], entering[len(scan.sequences) :]
    title = onnx_graph.scoped.name_in(scan.enter.scope, "scan")
    prefix = onnx_graph.node_name(title)
    body = onnx.GraphProto(name=f"{prefix}/step")
    started = [values[value] for value in scan.first_states]
    entered = {value: onnx_graph.fresh(f"{title}/{value.name or value.index}.steps") for value in scan.sequences}
    made = [_transpose(nodes, values[value], steps, value.type.rank) for value, steps in entered.items()]
    with onnx_graph.within(inner):
        for value in (*states, *items):
            name = onnx_graph.fresh(f"{title}/{value.name or value.index}")
            onnx_graph.declare(body.input.add(), values.assign(value, name, value.type), value.type)
        emit(scan.body)
        finish_body(onnx_graph, body, [(values[value], value.type) for value in (*scan.next_states, *scan.kept)], title)
    nodes.capture(inner)
    results = [values.assign(value, values.name_for(value, scan.exit), value.type) for value in scan.exit.results]
    last, kept = results[: len(started)], results[len(started) :]
    steps = [onnx_graph.fresh(f"{name}.steps") for name in kept]
    attributes = {"body": body, "num_scan_inputs": len(scan.sequences)}
    inputs = [*started, *(entered[value] for value in scan.sequences)]
    made.append(nodes.new("Scan", inputs, [*last, *steps], attributes, name=prefix))
    for source, result, value in zip(steps, kept, scan.kept, strict=True):
        made.append(_transpose(nodes, source, result, value.type.rank + 1))
    for node in made:
        nodes.append(node)


def _transpose(nodes: OnnxNodes, source: str, result: str, rank: int) -> OnnxNode:
    """A new node that exchanges the first two axes: batch and steps."""
    return nodes.new("Transpose", [source], [result], {"perm": [1, 0, *range(2, rank)]})
