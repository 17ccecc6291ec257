"""Files of one graph: the weights file and the ONNX model."""

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
"""Offset and length in bytes of each stored tensor in a file."""


def write_weights(graph: Graph, path: Path, metadata: Mapping[str, str] | None = None) -> Offsets:
    """Write the stored tensors of a graph to a .safetensors file, with the metadata `format: pt`."""
    return write(path, stored_tensors(graph), {"format": "pt", **(metadata or {})})


def write_onnx(graph: Graph, path: Path, weights_file: Path, offsets: Offsets) -> None:
    """Write the ONNX model of a graph and check it.

    Args:
        weights_file, offsets: the weights file and the offsets of its tensors.  If the weights have 100 MB or more
            (`LARGE` in `archc.codegen.onnx.emit`), the ONNX model contains only tensors of up to 1 KB, and refers to
            this file for the other weights.

    Raises:
        ArchcError: ONNX cannot express the graph (`no-onnx-form`), or ONNX refuses the model (`onnx-invalid`).
    """
    from archc.codegen import onnx

    onnx.emit(graph, path, weights_file=weights_file, offsets=offsets)
    try:
        onnx.check(path)
    except onnx.InvalidModel as refusal:
        raise error(
            "onnx-invalid",
            f"ONNX refuses the model emitted for `{graph.name}`: {refusal}",
            help="leave the ONNX model out with `--emit torch,arch`",
        ) from None


def stored_tensors(graph: Graph) -> dict[str, LazyTensor]:
    """Stored tensors in the order of the layers, independent of the order in which passes created them."""
    assert graph.tensors is not None
    weights = {path: graph.weights[path] for node in graph.nodes() for path in node.weights.values()}
    return {stored: graph.tensors[stored] for weight in weights.values() for stored in weight.tensors}
