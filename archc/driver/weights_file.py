"""The weights file of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from archc.codegen.target import WeightsFile
from archc.weights.safetensors import write

if TYPE_CHECKING:
    from archc.ir.graph import Graph


def write_weights(graph: Graph, path: Path, metadata: Mapping[str, str] | None = None) -> WeightsFile:
    """Write the stored tensors of a graph to a .safetensors file, with the metadata `format: pt`."""
    return WeightsFile(path, write(path, graph.stored_tensors(), {"format": "pt", **(metadata or {})}))
