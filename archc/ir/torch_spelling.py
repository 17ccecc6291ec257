"""PyTorch expression of a single node (its spelling), and the symbolic sizes in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from archc.declaration.spelling import TorchSpelling, as_parameters
from archc.ir.graph import Node
from archc.ir.scans import scan_end
from archc.types.dims import SymbolicDim


def node_spelling(
    node: Node,
    operands: Sequence[str],
    weight: Callable[[str], str],
    size_text: Callable[[SymbolicDim], str],
    rounds: bool = True,
) -> TorchSpelling:
    """Return the `TorchSpelling` from which a node's operator generates its PyTorch expression.

    Args:
        operands: expression of each operand.
        weight: returns the expression of the weight at a path.
        size_text: returns the expression of a symbolic size.
        rounds: see `TorchSpelling`.
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
        rounds=rounds,
    )


def required_sizes(node: Node) -> tuple[SymbolicDim, ...]:
    """Return the symbolic sizes in a node's PyTorch spelling: `N` and `T` of `reshape((N, T, 64))`."""
    if scan_end(node.op):
        return ()  # the emitted loop reads the number of steps from the shape of a sequence
    asked: dict[SymbolicDim, None] = {}

    def note(dim: SymbolicDim) -> str:
        asked[dim] = None
        return "1"

    node.op.torch(node_spelling(node, ["x"] * len(node.operands), lambda path: "w", note))
    return tuple(asked)
