"""Which sizes a node must know when it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from archc.ir.graph import Node
from archc.operator.spelling import TorchSpelling, as_parameters
from archc.types.dims import SymbolicDim


def node_spelling(
    node: Node, operands: Sequence[str], weight: Callable[[str], str], size_text: Callable[[SymbolicDim], str]
) -> TorchSpelling:
    """The surroundings of a node that is spelled by itself.

    Args:
        operands: an expression for each operand.
        weight: the expression for a weight, from its path.
        size_text: how a symbolic size is written.
    """
    inference = node.op.infer(node.types)
    return TorchSpelling(
        operands=operands,
        weights=as_parameters({name: weight(path) for name, path in node.weights.items()}, node.transposed),
        types=node.types,
        results=inference.results,
        sizes=inference.solution.extents,
        size_text=size_text,
        storages={},
    )


def required_sizes(node: Node) -> tuple[SymbolicDim, ...]:
    """The symbolic sizes that stand in a node's PyTorch spelling: those of `reshape((N, T, 64))`, not of a `relu`."""
    if node.op.scan_end:
        return ()  # its length is that of a sequence that it receives
    asked: dict[SymbolicDim, None] = {}

    def note(dim: SymbolicDim) -> str:
        asked[dim] = None
        return "1"

    node.op.torch(node_spelling(node, ["x"] * len(node.operands), lambda path: "w", note))
    return tuple(asked)
