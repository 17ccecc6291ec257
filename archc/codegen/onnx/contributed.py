"""Operators of ONNX models that are not part of the ONNX standard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

CONTRIB_DOMAIN = "com.microsoft"
"""Domain of the operators that only ONNX Runtime has; its version is always 1."""


def contributed_operators(path: Path) -> list[str]:
    """The operators of a model outside the ONNX standard, such as `com.microsoft.DynamicQuantizeLSTM`."""
    model = onnx.load(path, load_external_data=False)
    return sorted({f"{node.domain}.{node.op_type}" for node in _nodes(model.graph) if node.domain})


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, also those in the bodies of scans."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _nodes(body)
