"""Verifier of graphs, which runs after elaboration and after every pass."""

from __future__ import annotations

from archc.ir.graph import Graph, Value
from archc.ir.scans import schedule
from archc.types.extent_solver import Misfit


class InvalidGraph(Exception):
    """Error for an invalid graph: a bug of elaboration or of a pass, not a mistake of the user."""


def verify(graph: Graph) -> None:
    """Check the invariants of a graph.

    Raises:
        InvalidGraph: the graph has one of these faults: a cycle; a used value without a producer; operands that do not
            fit their operator; a result type that differs from the inferred type; a weight that is missing or unused,
            or has a wrong shape or dtype; two different layers with the same path; a dead node; stored tensors that do
            not fit the weights; a scan with a start and no end, or with an end and no start; a value of a scan's body
            that is used outside the scan.
    """
    try:
        nodes = graph.nodes()  # raises ValueError for a cycle
        schedule(graph)
    except ValueError as problem:
        raise InvalidGraph(str(problem)) from None
    known: set[Value] = set(graph.inputs)
    layers: dict[str, tuple[object, object]] = {}
    used: set[str] = set()
    feeding: set[Value] = set(graph.outputs.values())
    for node in reversed(nodes):
        if not any(value in feeding for value in node.results):
            raise InvalidGraph(f"{node.title} is dead: no output depends on it")
        feeding.update(node.operands)
    for node in nodes:
        for value in node.operands:
            if value not in known:
                raise InvalidGraph(f"{node.title} uses a value without a producer in the graph")
        try:
            inference = node.op.infer(node.types)
        except Misfit as misfit:
            raise InvalidGraph(f"{node.title} has operands that do not fit: {misfit}") from None
        if tuple(value.type for value in node.results) != inference.results:
            raise InvalidGraph(f"{node.title} has results {node.results}, and its operator infers {inference.results}")
        if set(node.weights) != set(inference.parameters):
            raise InvalidGraph(f"{node.title} has the weights {list(node.weights)}, not {list(inference.parameters)}")
        for name, type in inference.parameters.items():
            weight = graph.weights.get(node.weights[name])
            if weight is None:
                raise InvalidGraph(f"{node.title} uses the weight {node.weights[name]}, which is not in the graph")
            needed = type.shape[::-1] if name in node.transposed else type.shape
            if weight.shape != needed or weight.dtype is not type.dtype:
                raise InvalidGraph(
                    f"{weight.path} is {weight.dtype}{list(weight.shape)}, and {node.title} needs {type}"
                    f"{' transposed' if name in node.transposed else ''}"
                )
            used.add(weight.path)
        if node.path is not None:
            kind = (node.op, node.bindings)
            if layers.setdefault(node.path, kind) != kind:
                raise InvalidGraph(f"two different layers have the path {node.path}")
        known.update(node.results)
    for name, value in graph.outputs.items():
        if value not in known:
            raise InvalidGraph(f"the output {name} has no producer in the graph")
    unused = [path for path in graph.weights if path not in used]
    if unused:
        raise InvalidGraph(f"no layer uses the weight {unused[0]}")
    if graph.tensors is not None:
        _verify_tensors(graph)


def _verify_tensors(graph: Graph) -> None:
    assert graph.tensors is not None
    expected = {path: spec for weight in graph.weights.values() for path, spec in weight.tensors.items()}
    for path, (shape, dtype) in expected.items():
        if path not in graph.tensors:
            raise InvalidGraph(f"no tensor is bound to {path}")
        tensor = graph.tensors[path]
        if tuple(tensor.shape) != shape or tensor.dtype != dtype.value:
            raise InvalidGraph(f"{path} is bound to {tensor.dtype}{list(tensor.shape)}, not {dtype}{list(shape)}")
    surplus = [path for path in graph.tensors if path not in expected]
    if surplus:
        raise InvalidGraph(f"a tensor is bound to {surplus[0]}, which is not a stored tensor of a weight")
