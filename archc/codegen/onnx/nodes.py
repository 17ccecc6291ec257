"""The nodes of an operator while it is being spelled, and how they become protobuf.

`onnx.helper.make_node` takes four times as long as writing into the message, which counts at 100,000 nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto

from archc.codegen.onnx.initializers import onnx_dtype, raw_bytes
from archc.types.tensor_type import DType
from archc.weights.dtype_conversion import name_of_numpy


@dataclass(slots=True)
class Record:
    """A node to be, whose names may still change."""

    op_type: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    domain: str = ""
    name: str = ""


def captured(record: Record) -> set[str]:
    """Names that the body of a node captures from outside, possibly with names of its own."""
    bodies = [value for value in record.attributes.values() if isinstance(value, onnx.GraphProto)]
    return {name for body in bodies for name in _used(body)}


def _used(body: onnx.GraphProto) -> set[str]:
    found = {name for node in body.node for name in node.input}
    for node in body.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found |= _used(attribute.g)
    return found


def write(proto: onnx.NodeProto, record: Record) -> None:
    """Fill an empty `NodeProto`.  Absent optional inputs at the end are dropped, as are attributes that are None."""
    inputs = record.inputs
    while inputs and not inputs[-1]:
        inputs.pop()
    proto.input.extend(inputs)
    proto.output.extend(record.outputs)
    proto.name = record.name
    proto.op_type = record.op_type
    if record.domain:
        proto.domain = record.domain
    for key, value in sorted(record.attributes.items()):
        if value is not None:
            proto.attribute.append(_attribute(key, value))


def _attribute(name: str, value: Any) -> AttributeProto:
    if isinstance(value, np.ndarray):
        return _tensor_attribute(name, value)
    if isinstance(value, onnx.GraphProto):
        return AttributeProto(name=name, type=AttributeProto.GRAPH, g=value)
    if isinstance(value, (list, tuple)):
        return _list_attribute(name, tuple(value), any(isinstance(item, float) for item in value))
    return _scalar_attribute(name, value, type(value).__name__)


# True and 1 and 1.0 are one key to a cache, and three attributes: their type is part of the key.
@lru_cache(maxsize=4096)
def _scalar_attribute(name: str, value: Any, kind: str) -> AttributeProto:
    if isinstance(value, DType):
        return AttributeProto(name=name, type=AttributeProto.INT, i=onnx_dtype(value))
    if isinstance(value, (bool, int)):
        return AttributeProto(name=name, type=AttributeProto.INT, i=int(value))
    if isinstance(value, float):
        return AttributeProto(name=name, type=AttributeProto.FLOAT, f=value)
    if isinstance(value, str):
        return AttributeProto(name=name, type=AttributeProto.STRING, s=value.encode())
    raise TypeError(f"{name} = {value!r} is no attribute that ONNX knows")


@lru_cache(maxsize=4096)
def _list_attribute(name: str, values: tuple[Any, ...], floating: bool) -> AttributeProto:
    if floating:
        return AttributeProto(name=name, type=AttributeProto.FLOATS, floats=values)
    if all(isinstance(value, str) for value in values) and values:
        return AttributeProto(name=name, type=AttributeProto.STRINGS, strings=[value.encode() for value in values])
    return AttributeProto(name=name, type=AttributeProto.INTS, ints=[int(value) for value in values])


def _tensor_attribute(name: str, array: np.ndarray[Any, Any]) -> AttributeProto:
    dtype = name_of_numpy(array.dtype)
    if dtype is None:
        raise TypeError(f"{name} = {array!r} is no attribute that ONNX knows")
    attribute = AttributeProto(name=name, type=AttributeProto.TENSOR)
    attribute.t.data_type = onnx_dtype(DType(dtype))
    attribute.t.dims.extend(array.shape)
    attribute.t.raw_data = raw_bytes(array)
    return attribute
