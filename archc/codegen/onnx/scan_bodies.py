"""The body of a `Scan` in ONNX: its outputs, rewrites and protobuf message."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from archc.codegen.onnx.onnx_graph import OnnxGraph
from archc.codegen.onnx.rewrites import rewrite
from archc.types.tensor_type import TensorType


def finish_body(
    onnx_graph: OnnxGraph, body: onnx.GraphProto, ends: Sequence[tuple[str, TensorType]], title: str
) -> None:
    """Declare the outputs of a body, rewrite its nodes, and write them into its message.

    `onnx_graph.nodes` are the nodes of the body.  Values from outside and repeated outputs are copied with `Identity`.

    Args:
        ends: the values that leave the body, with their types.
        title: beginning of the names of the copies.
    """
    nodes = onnx_graph.nodes
    made = {result.name for node in nodes for result in node.results}
    for name, type in ends:
        output = name
        if name not in made:
            output = onnx_graph.fresh(f"{title}/{name}")
            nodes.append(nodes.new("Identity", [name], [output]))
        made.discard(name)
        onnx_graph.declare(body.output.add(), output, type)
    rewrite(onnx_graph, [output.name for output in body.output])
    onnx_graph.write(body, nodes)
