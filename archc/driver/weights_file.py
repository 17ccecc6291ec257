"""The weights file of a graph."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from archc.codegen.target import Target, WeightsFile
from archc.weights.safetensors import write

if TYPE_CHECKING:
    from archc.ir.graph import Graph

_METADATA = {"format": "pt"}


def needs_weights_file(targets: Iterable[Target]) -> bool:
    """Return whether a weights file is written with these targets, for a model with weights."""
    return not all(target.holds_weights for target in targets)


def write_weights(graph: Graph, path: Path, metadata: Mapping[str, str] | None = None) -> WeightsFile:
    """Write the stored tensors of a graph to a .safetensors file, with the metadata `format: pt`."""
    return WeightsFile(path, write(path, graph.stored_tensors(), {**_METADATA, **(metadata or {})}))


def hash_with_weights(text: str, graph: Graph, weights: WeightsFile | None) -> str:
    """Hash of the weights file of a graph and a text, in hexadecimal digits.

    Args:
        weights: the weights file.  With None, the bytes that it would have are computed again.
    """
    if weights is None:
        sink = _HashingStream()
        write(sink, graph.stored_tensors(), _METADATA)
        digest = sink.digest
    else:
        with weights.path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256")
    digest.update(text.encode())
    return digest.hexdigest()


class _HashingStream:
    """A stream that hashes the bytes which are written to it."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def write(self, data: memoryview) -> None:
        self.digest.update(data)
