"""From a graph to an ONNX model, in memory or in a file.

Small models hold their weights.  Large ones point into the model's .safetensors file, which lies beside them, so that
no weight is written twice and none passes through protobuf, which ends at 2 GB.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from archc.codegen.onnx.build import build
from archc.codegen.onnx.external import external
from archc.codegen.onnx.initializers import Fill, embed
from archc.codegen.onnx.versions import CONTRIB_DOMAIN, IR_VERSION, OPSET, PRODUCER
from archc.ir.graph import Graph

LARGE = 100_000_000
"""Bytes of weights from which on they are left outside the model."""


def to_model(graph: Graph) -> onnx.ModelProto:
    """The model, with its weights inside.

    Raises:
        ArchcError: operators that ONNX has no form of (`no-onnx-form`), one error for each.
        ValueError: no weights are bound to the graph.
    """
    return _model(graph, embed)


def without_elements(graph: Graph) -> onnx.ModelProto:
    """The model with the names and shapes of its weights, none of which is read: enough to show it.

    Raises:
        ArchcError, ValueError: as `to_model`.
    """
    return _model(graph, lambda proto, tensor: None)


def emit(
    graph: Graph,
    path: Path,
    *,
    weights_file: Path | None = None,
    offsets: Mapping[str, tuple[int, int]] | None = None,
    large: int = LARGE,
) -> onnx.ModelProto:
    """Write the model into a file, and return it as it was written.

    Args:
        weights_file: the file that holds the graph's stored tensors, in the folder that `path` will be read from.
        offsets: where each of them stands in it: offset and length in bytes, as `safetensors.write` returns them.
        large: the bytes of weights from which on the model points into that file; smaller models are whole.

    Raises:
        ArchcError: as `to_model`; nothing is written then.
        ValueError: no weights are bound to the graph, or they are large and there is no file to point into.
    """
    model = _model(graph, _fill(graph, weights_file, offsets, large))
    path.write_bytes(model.SerializeToString(deterministic=True))
    return model


def _fill(graph: Graph, file: Path | None, offsets: Mapping[str, tuple[int, int]] | None, large: int) -> Fill:
    if sum(weight.nbytes for weight in graph.weights.values()) < large:
        return embed
    if file is None or offsets is None:
        raise ValueError(f"weights of {large} bytes and more need a file to stand in")
    return external(file.name, offsets)


def _model(graph: Graph, fill: Fill) -> onnx.ModelProto:
    if graph.tensors is None and graph.weights:
        raise ValueError("no weights are bound to the graph")
    model = onnx.ModelProto(ir_version=IR_VERSION, producer_name=PRODUCER)
    domains = build(graph, model.graph, fill)
    model.opset_import.add(domain="", version=OPSET)
    if CONTRIB_DOMAIN in domains:
        model.opset_import.add(domain=CONTRIB_DOMAIN, version=1)
    return model
