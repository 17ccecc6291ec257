"""How a node is spelled: the module that stands for it, or what its operator needs to write an expression."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from archc.ir.graph import Graph, Node
from archc.operator.base import Operator
from archc.operator.spelling import TorchModule, TorchSpelling
from archc.types.dims import SymbolicDim
from archc.types.storage import Dense, Masked

TO_STAGE = "ToStage"
"""The class that moves a tensor to the device of a stage; see `archc.codegen.torch.placement`."""

MASKED = "Masked"
"""What the name of a class begins with that extends a module of `torch.nn` by a mask: `MaskedLinear`."""


def spelling(
    node: Node,
    graph: Graph,
    operands: Sequence[str],
    weights: Mapping[str, str],
    size_text: Callable[[SymbolicDim], str] = str,
    device: str | None = None,
    training: str | None = None,
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
        training=training,
    )


def module_of(node: Node, graph: Graph) -> TorchModule | None:
    """The `torch.nn` module that stands for a node.

    None where the operator has none, where a weight is another layer's, or where one is stored encoded.  For a masked
    weight a class that extends the module stands for it; see `archc.codegen.torch.masked`.
    """
    stage = node.op.enters_stage()
    if stage is not None:
        return TorchModule(TO_STAGE, {"stage": stage})
    if type(node.op).torch_module is Operator.torch_module:
        return None  # no operator of this kind has one
    if not all(owns(node, parameter) for parameter in node.weights):
        return None
    module = node.op.torch_module(spelling(node, graph, ("",) * len(node.operands), dict.fromkeys(node.weights, "")))
    encoded = {
        name: storage for name in node.weights if (storage := graph.weights[node.weights[name]].storage) != Dense()
    }
    if module is None or not encoded:
        return module
    can_mask = encoded == {"weight": Masked()} and node.op.torch_forward("weight") is not None
    return replace(module, function=f"{MASKED}{module.function.removeprefix('nn.')}") if can_mask else None


def owns(node: Node, parameter: str) -> bool:
    """Whether a parameter is the layer's own, and not that of another."""
    return node.weights[parameter] == f"{node.path}.{parameter}"
