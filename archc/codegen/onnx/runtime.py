"""Check an emitted model, and run it in ONNX Runtime."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from archc.codegen.onnx.initializers import onnx_dtype
from archc.types.tensor_type import DType
from archc.weights.dtype_conversion import from_torch, name_of_numpy, numpy_dtype, to_torch

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime
    import torch


def session(model: onnx.ModelProto | Path | str, threads: int = 1, exact: bool = False) -> onnxruntime.InferenceSession:
    """A session on the CPU; a model above 2 GB, or with external data, must be given as a path.

    Args:
        exact: accumulate 8-bit products without saturation even on CPUs without VNNI, where this is slower.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3  # errors only; the warnings are about ONNX Runtime's own optimizations
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    source = str(model) if isinstance(model, (Path, str)) else model.SerializeToString(deterministic=True)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run(
    model: onnx.ModelProto | Path | str,
    inputs: Mapping[str, np.ndarray[Any, Any]],
    threads: int = 1,
    exact: bool = False,
) -> dict[str, np.ndarray[Any, Any]]:
    """The outputs of a model by name, in a new `session`; bf16 arrays have the dtype `ml_dtypes.bfloat16`."""
    return run_session(session(model, threads, exact), inputs)


def run_tensors(
    model: onnx.ModelProto | Path | str, inputs: Sequence[torch.Tensor], threads: int = 1, exact: bool = False
) -> tuple[torch.Tensor, ...]:
    """The outputs of a model, as `run`, for CPU tensors; inputs and outputs are in the order of the model."""
    ready = session(model, threads, exact)
    names = [each.name for each in ready.get_inputs()]
    arrays = {name: from_torch(tensor) for name, tensor in zip(names, inputs, strict=True)}
    return tuple(to_torch(array) for array in run_session(ready, arrays).values())


def run_session(
    ready: onnxruntime.InferenceSession, inputs: Mapping[str, np.ndarray[Any, Any]]
) -> dict[str, np.ndarray[Any, Any]]:
    """The outputs of one run of a session, by name.

    ONNX Runtime does not support numpy arrays of bf16, so inputs and outputs pass as `OrtValue`.
    """
    names = [output.name for output in ready.get_outputs()]
    values = {name: _value(array) for name, array in inputs.items()}  # an array must outlive its `OrtValue`
    results = ready.run_with_ort_values(names, values)
    borrowed = {value.data_ptr() for value in values.values()}
    # An output that is an input shares the memory of the caller's array.  The caller may free this array, so copy it.
    return {name: _array(value, value.data_ptr() in borrowed) for name, value in zip(names, results, strict=True)}


def _value(array: np.ndarray[Any, Any]) -> onnxruntime.OrtValue:
    import numpy as np
    import onnxruntime

    if name_of_numpy(array.dtype) != "bf16":
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    bits = np.asarray(array, order="C").view(np.int16)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, onnx_dtype(DType.bf16))


def _array(value: onnxruntime.OrtValue, copy: bool) -> np.ndarray[Any, Any]:
    import numpy as np

    if value.element_type() != onnx_dtype(DType.bf16):
        return np.array(value.numpy(), copy=copy or None)
    raw = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(bytearray(raw), numpy_dtype("bf16")).reshape(value.shape())


class InvalidModel(Exception):
    """A model that ONNX refuses; if archc emitted the model, archc has a bug."""


def check(model: onnx.ModelProto | Path | str) -> None:
    """Check a model in memory, or in a file of any size, by ONNX's checker and strict shape inference.

    Raises:
        InvalidModel: the checker or the shape inference refuses the model, or its external data are missing.
    """
    # The checker serializes a model that is not in a file, and protobuf has a limit of 2 GB.  Files have no limit.
    subject = str(model) if isinstance(model, (Path, str)) else model
    try:
        onnx.checker.check_model(subject, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as refusal:
        raise InvalidModel(str(refusal)) from None
