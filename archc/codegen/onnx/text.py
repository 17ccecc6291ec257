"""An ONNX model as text, for golden files and reviews: a line for each tensor and for each node.

    onnx cnn (opset 21)
    input image: f32[N, 1, 28, 28]
    weight conv1.weight: f32[32, 1, 3, 3]
    conv1 = Conv(image, conv1.weight, conv1.bias, strides=[1, 1])
    output logits: f32[N, 10]

The elements of weights are omitted.  Constants are inlined.  The body of a `Scan` follows its line.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto

from archc.codegen.onnx.emit import without_elements
from archc.codegen.onnx.initializers import is_constant
from archc.ir.graph import Graph
from archc.types.tensor_type import STORED_DTYPES
from archc.weights.dtype_conversion import from_little_endian

_LONGEST_CONSTANT = 16  # elements; a longer constant is shown by its type
_DTYPES = {TensorProto.DataType.Value(dtype.onnx): dtype.value for dtype in STORED_DTYPES}


def as_text(subject: Graph | onnx.ModelProto) -> str:
    """The text of a model, or of the model of a graph; ends with a line break."""
    model = without_elements(subject) if isinstance(subject, Graph) else subject
    graph = model.graph
    versions = ", ".join(f"{o.domain} {o.version}" if o.domain else f"opset {o.version}" for o in model.opset_import)
    lines = [f"onnx {graph.name} ({versions})", *_lines(graph, {})]
    return "\n".join(lines) + "\n"


def _lines(graph: onnx.GraphProto, constants: dict[str, str]) -> Iterator[str]:
    """The lines of a graph; adds the graph's constants to `constants`.

    Args:
        constants: the texts of the constants of the outer graphs, by name.
    """
    yield from (f"input {_declared(value)}" for value in graph.input)
    for tensor in graph.initializer:
        if is_constant(tensor.name):
            constants[tensor.name] = _constant(tensor)
        else:
            where = " (external)" if tensor.data_location == TensorProto.EXTERNAL else ""
            yield f"weight {tensor.name}: {_type(tensor)}{where}"
    for node in graph.node:
        yield _node(node, constants)
        for body in (attribute.g for attribute in node.attribute if attribute.type == AttributeProto.GRAPH):
            yield from (f"    {line}" for line in _lines(body, constants))
    yield from (f"output {_declared(value)}" for value in graph.output)


def _node(node: onnx.NodeProto, constants: dict[str, str]) -> str:
    arguments = [constants.get(name, name) or "_" for name in node.input]
    shown = (attribute for attribute in node.attribute if attribute.type != AttributeProto.GRAPH)
    arguments += [f"{attribute.name}={_attribute(attribute)}" for attribute in shown]
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return f"{', '.join(node.output)} = {operator}({', '.join(arguments)})"


def _attribute(attribute: AttributeProto) -> str:
    if attribute.type == AttributeProto.TENSOR:
        return _constant(attribute.t)
    value: Any = onnx.helper.get_attribute_value(attribute)
    if attribute.type == AttributeProto.INT and attribute.name in ("to", "output_dtype"):
        return _DTYPES.get(value, str(value))
    if isinstance(value, bytes):
        return f'"{value.decode()}"'
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, int):
        return str(value)
    items = (_number(item) if isinstance(item, float) else str(item) for item in value)
    return f"[{', '.join(items)}]"


def _constant(tensor: TensorProto) -> str:
    array = from_little_endian(np.frombuffer(tensor.raw_data, np.uint8), _DTYPES[tensor.data_type])
    if array.size > _LONGEST_CONSTANT:
        return _type(tensor)
    text = _nested(array.reshape(tuple(tensor.dims)).tolist())
    dtype = _DTYPES[tensor.data_type]
    return text if dtype in ("f32", "i64", "bool") else f"{dtype}({text})"


def _nested(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_nested, value))}]"
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    """The shortest text of a number, in f32 precision if an f32 represents the number exactly."""
    return str(np.float32(value)) if np.float32(value) == value or value != value else repr(value)


def _declared(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    dims = ", ".join(dim.dim_param or str(dim.dim_value) for dim in tensor.shape.dim)
    return f"{value.name}: {_DTYPES[tensor.elem_type]}[{dims}]"


def _type(tensor: TensorProto) -> str:
    return f"{_DTYPES[tensor.data_type]}[{', '.join(map(str, tensor.dims))}]"
