"""How a node is spelled: the module that stands for it, or what its operator needs to write an expression."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from archc.ir.dims import SymbolicDim
from archc.ir.graph import Graph, Node
from archc.ir.storage import Dense
from archc.ops.operator import Operator
from archc.ops.spelling import TorchModule, TorchSpelling


def spelling(
    node: Node,
    graph: Graph,
    operands: Sequence[str],
    weights: Mapping[str, str],
    size_text: Callable[[SymbolicDim], str] = str,
    device: str | None = None,
) -> TorchSpelling:
    """The surroundings of a node whose operands and weights are these expressions."""
    inference = node.op.infer(node.types)
    return TorchSpelling(
        operands=operands,
        weights=weights,
        types=node.types,
        results=inference.results,
        sizes=inference.solution.extents,
        size_text=size_text,
        storages={name: graph.weights[path].storage for name, path in node.weights.items()},
        device=device,
    )


def module_of(node: Node, graph: Graph) -> TorchModule | None:
    """The `torch.nn` module that stands for a node.

    None where the operator has none, where a weight is another layer's, or where one is stored encoded.
    """
    if type(node.op).torch_module is Operator.torch_module:
        return None  # no operator of this kind has one
    if not all(owns(node, parameter) for parameter in node.weights):
        return None
    if not all(isinstance(graph.weights[path].storage, Dense) for path in node.weights.values()):
        return None
    return node.op.torch_module(spelling(node, graph, ("",) * len(node.operands), dict.fromkeys(node.weights, "")))


def owns(node: Node, parameter: str) -> bool:
    """Whether a parameter is the layer's own, and not that of another."""
    return node.weights[parameter] == f"{node.path}.{parameter}"
