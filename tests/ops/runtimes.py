"""ONNX Runtime at each of its optimization levels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

LEVELS = {
    level.name: level
    for level in (
        onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
        onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    )
}
"""Optimization levels: each fuses more nodes than the previous one, and the last is the default."""


def session(source: onnx.ModelProto | Path | bytes, level: str = "ORT_ENABLE_ALL") -> onnxruntime.InferenceSession:
    """A session on one CPU thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = LEVELS[level]
    options.log_severity_level = 3
    if isinstance(source, onnx.ModelProto):
        source = source.SerializeToString()
    given = str(source) if isinstance(source, Path) else source
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def sessions(source: onnx.ModelProto | Path | bytes) -> dict[str, onnxruntime.InferenceSession]:
    """A session at each level, by a name such as "ONNX Runtime (ORT_ENABLE_ALL)"."""
    serialized = source.SerializeToString() if isinstance(source, onnx.ModelProto) else source
    return {f"ONNX Runtime ({level})": session(serialized, level) for level in LEVELS}


def at_every_level(
    source: onnx.ModelProto | Path | bytes, arrays: Mapping[str, Any]
) -> Iterator[tuple[str, list[Any]]]:
    """Run a model once at each level.

    Yields:
        The name of the session, and the outputs in the model's order.
    """
    for name, ready in sessions(source).items():
        yield name, ready.run(None, dict(arrays))
