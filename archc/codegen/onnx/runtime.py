"""Running an emitted model in ONNX Runtime, for checks and measurements."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import onnxruntime


def session(model: onnx.ModelProto | Path | str, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session on the CPU.  A model above 2 GB, or with weights in another file, must be given as a path."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3  # errors; its warnings are about what it optimizes
    source = str(model) if isinstance(model, (Path, str)) else model.SerializeToString(deterministic=True)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run(
    model: onnx.ModelProto | Path | str, inputs: Mapping[str, np.ndarray[Any, Any]], threads: int = 1
) -> dict[str, np.ndarray[Any, Any]]:
    """The outputs by name."""
    ready = session(model, threads)
    names = [output.name for output in ready.get_outputs()]
    return dict(zip(names, ready.run(names, dict(inputs)), strict=True))
