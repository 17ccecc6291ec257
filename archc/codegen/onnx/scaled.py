"""Scaling of the weights within an ONNX model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from archc.codegen.onnx.initializers import data_file, path_of


def scale(path: Path, factors: Mapping[str, float]) -> None:
    """Multiply weights of a model by factors, in the model and in its own data file.

    Args:
        factors: the factors, by the paths of the weights.
    """
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        factor = factors.get(path_of(tensor.name))
        if factor is None:
            continue
        if tensor.data_location != TensorProto.EXTERNAL:
            array = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array((array * factor).astype(array.dtype), tensor.name))
            continue
        place = {entry.key: entry.value for entry in tensor.external_data}
        if place["location"] == data_file(path).name:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            elements = np.memmap(data_file(path), dtype, "r+", int(place["offset"]), tuple(tensor.dims))
            elements[...] = (elements * factor).astype(dtype)
            elements.flush()
    onnx.save(model, path)
