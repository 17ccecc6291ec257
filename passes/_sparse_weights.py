"""Storage of masked weights as bitmasks and the remaining elements."""

from __future__ import annotations

from archc.ir.graph import Graph
from archc.passmanager import Context
from archc.types.storage import Masked, Sparse

from ._prunable_weights import Wanted, elements_left


def store_sparse(graph: Graph, context: Context, wanted: Wanted) -> None:
    """Store the masked weights of the selected layers as `sparse`, with a note on their bytes."""
    layers = graph.layers()
    paths = {path for layer, node in layers.items() if wanted(layer) for path in node.weights.values()}
    masked = [path for path in graph.weights if path in paths and isinstance(graph.weights[path].storage, Masked)]
    dense = sum(graph.weights[path].size * graph.weights[path].dtype.size for path in masked)
    for path in masked:
        values, left = graph.weight_values(path), elements_left(graph, path)
        storage = Sparse(int(left.sum()))
        context.rewriter.set_storage(path, storage, storage.pack(path, values, left))
    if masked:
        stored = sum(graph.weights[path].nbytes for path in masked)
        context.note(
            graph.name,
            f"the pruned weights take {stored:,} of {dense:,} bytes ({stored / dense:.1%}); no program is faster for"
            " it, and ONNX programs store the zeros",
            bytes_before=dense,
            bytes_after=stored,
        )
