"""Initializers whose bytes stand in another file: the model's own .safetensors file."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import TensorProto

from archc.codegen.onnx.initializers import Fill, embed
from archc.weights.tensor import LazyTensor

SMALL = 1024
"""Bytes up to which a tensor is embedded all the same: readers want scales and biases at hand."""


def external(location: str, offsets: Mapping[str, tuple[int, int]]) -> Fill:
    """The `Fill` that points into a file.

    Args:
        location: the file's name; ONNX takes it relative to the model's own folder.
        offsets: offset and length in bytes of each stored tensor.
    """

    def fill(proto: TensorProto, tensor: LazyTensor) -> None:
        if tensor.nbytes <= SMALL:
            embed(proto, tensor)
            return
        offset, length = offsets[proto.name]
        if length != tensor.nbytes:
            raise ValueError(f"{proto.name} takes {tensor.nbytes} bytes, and {length} are set aside for it")
        proto.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
            proto.external_data.add(key=key, value=value)

    return fill
