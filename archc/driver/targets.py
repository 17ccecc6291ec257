"""Writing one graph: its weights, and its ONNX model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from archc.diagnostics import error
from archc.weights.safetensors import write

if TYPE_CHECKING:
    from archc.ir.graph import Graph
    from archc.weights.tensor import LazyTensor

Offsets = Mapping[str, tuple[int, int]]
"""Where each stored tensor stands in a file: offset and length in bytes."""


def write_weights(graph: Graph, path: Path, metadata: Mapping[str, str] | None = None) -> Offsets:
    """Write the stored tensors of a graph, one at a time, as PyTorch's users of safetensors expect them."""
    return write(path, stored_tensors(graph), {"format": "pt", **(metadata or {})})


def write_onnx(graph: Graph, path: Path, weights_file: Path, offsets: Offsets) -> None:
    """Write the ONNX model of a graph and check it.

    Args:
        weights_file, offsets: the file that holds the weights, for a model that is too large to hold them itself.

    Raises:
        ArchcError: ONNX cannot express the graph (`no-onnx-form`), or refuses what was made of it (`onnx-invalid`).
    """
    from archc.codegen import onnx

    onnx.emit(graph, path, weights_file=weights_file, offsets=offsets)
    try:
        onnx.check(path)
    except onnx.InvalidModel as refusal:
        raise error(
            "onnx-invalid",
            f"ONNX refuses the model that was made of `{graph.name}`: {refusal}",
            help="leave the ONNX model out with `--emit torch,arch`",
        ) from None


def stored_tensors(graph: Graph) -> dict[str, LazyTensor]:
    """The stored tensors in the order of the layers, so that the file does not tell in which order passes made them."""
    assert graph.tensors is not None
    weights = {path: graph.weights[path] for node in graph.nodes() for path in node.weights.values()}
    return {stored: graph.tensors[stored] for weight in weights.values() for stored in weight.tensors}
