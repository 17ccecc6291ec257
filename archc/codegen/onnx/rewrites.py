"""The rewrites of emitted nodes, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from archc.codegen.onnx.barriers import separate
from archc.codegen.onnx.decode import DecodedWeights
from archc.codegen.onnx.fusible import decode_late, make_fusible
from archc.codegen.onnx.onnx_graph import NodeRecord, OnnxGraph, captured
from archc.codegen.onnx.transposes import store_transposes
from archc.types.tensor_type import DType

Rewrite = Callable[[DecodedWeights, list[NodeRecord], set[str]], list[NodeRecord]]
"""A function from the weights, nodes in topological order, and names used elsewhere, to new nodes."""


def rewritten(weights: DecodedWeights, records: list[NodeRecord], outputs: Iterable[str]) -> list[NodeRecord]:
    """The nodes of a graph or of the body of a scan, with the given outputs, after all rewrites."""
    for rewrite in REWRITES:
        records = rewrite(weights, records, _used_elsewhere(records, outputs))
    return records


def _used_elsewhere(records: Iterable[NodeRecord], outputs: Iterable[str]) -> set[str]:
    """Names that are outputs of the graph, or that bodies of scans among the nodes use."""
    return {*outputs, *(name for record in records for name in captured(record))}


def _make_fusible(weights: DecodedWeights, records: list[NodeRecord], used: set[str]) -> list[NodeRecord]:
    onnx = weights.onnx
    return make_fusible(records, used, onnx.names, lambda: onnx.constant(0.0), partial(_is_int8, onnx))


def _decode_late(weights: DecodedWeights, records: list[NodeRecord], used: set[str]) -> list[NodeRecord]:
    return decode_late(records, used, weights.onnx.names, partial(_is_int8, weights.onnx))


def _separate(weights: DecodedWeights, records: list[NodeRecord], used: set[str]) -> list[NodeRecord]:
    return separate(records, used, weights.onnx.names, weights.onnx.initializers)


def _is_int8(onnx: OnnxGraph, zero_point: str) -> bool:
    """Return whether a zero point is a stored int8 scalar."""
    if zero_point not in onnx.initializers:
        return False
    tensor = onnx.tensors[zero_point]
    return tensor.dtype == DType.i8.value and not tensor.shape


REWRITES: tuple[Rewrite, ...] = (store_transposes, _make_fusible, _decode_late, _separate)
"""`_separate` inserts copies that would hide patterns from the other rewrites, so it is last."""
