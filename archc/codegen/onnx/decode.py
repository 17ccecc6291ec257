"""Weights in ONNX: initializers for the stored tensors, and nodes that decode them.

A `Cast` and a `Mul`, or a `DequantizeLinear`, decode integers.  ONNX Runtime runs a `Cast` and a `Mul` of constants
once, when it loads the model.  It keeps a `DequantizeLinear` in the model, since its integer kernels need a
`DequantizeLinear` on both operands of a product.

So a `DequantizeLinear` decodes a weight only if the other operand of the product is also quantized.  With a float
operand, the `DequantizeLinear` would run in each inference (a linear layer from 1024 to 4096 features would take four
times as long at batch 1), or ONNX Runtime would fuse it into a kernel that also rounds the operand.

A quantized operand is necessary, but not sufficient: the operator chooses between the two forms.  For example, a
convolution with short sums uses a float kernel (`SHORT_SUM` in `archc.ops.conv`), so a `Cast` and a `Mul` decode its
weight.

ONNX Runtime also decodes packed integers and narrow floats once; see `archc.codegen.onnx.packed`.  A kernel for int4
decodes the weight in each run; see `archc.declaration.packed_kernels`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from archc.codegen.onnx.initializers import TRANSPOSED
from archc.codegen.onnx.onnx_graph import OnnxGraph
from archc.codegen.onnx.packed import PackedDecoder
from archc.declaration.base import OperatorError
from archc.declaration.dtypes import ONNX_MOST, wider
from archc.types.storage import (
    Dense,
    FakeQuantized,
    Float8Storage,
    Int8,
    LowRankStorage,
    Masked,
    NarrowFloat,
    PackedIntegers,
    Sparse,
    Weight,
)
from archc.types.tensor_type import DType
from archc.weights.tensor import ComputedTensor


class DecodedWeights:
    """The weights of an ONNX graph: `weights[path]` is the name of a weight's decoded value.

    Each weight is decoded once, when an operator first asks for it.

    Attributes:
        onnx: the graph under construction.
    """

    def __init__(self, onnx: OnnxGraph):
        self.onnx = onnx
        self._decoded: dict[str, str] = {}
        self._dequantized: dict[str, str] = {}
        self._transposed: dict[str, str] = {}
        self._blocks: dict[str, tuple[str, str, str]] = {}
        self._cast: dict[tuple[str, DType], str] = {}
        self._biases: dict[tuple[str, str, str], str | None] = {}

    def __getitem__(self, path: str) -> str:
        """The name of a weight's decoded value, for float kernels.

        Raises:
            OperatorError: ONNX cannot decode this storage.
        """
        if path not in self._decoded:
            self._decoded[path] = self._decode(self.onnx.graph.weights[path])
        return self._decoded[path]

    def transposed(self, path: str) -> str:
        """The name of the transpose of a matrix; one `Transpose` serves all layers.

        ONNX Runtime runs the `Transpose` once, when it loads the model, or the model stores the transpose; see
        `archc.codegen.onnx.transposes`.
        """
        if path not in self._transposed:
            self._transposed[path] = self.onnx.shared(path + TRANSPOSED, "Transpose", self[path], perm=[1, 0])
        return self._transposed[path]

    def cast(self, name: str, have: DType, dtype: DType) -> str:
        """The name of a weight's value in another dtype; one `Cast` serves all layers."""
        if have is dtype:
            return name
        key = (name, dtype)
        if key not in self._cast:
            self._cast[key] = self.onnx.shared(f"{name}/Cast", "Cast", name, to=dtype)
        return self._cast[key]

    def dequantized(self, path: str) -> str:
        """The name of a weight's decoded value for integer kernels; int8 is decoded by a `DequantizeLinear`."""
        if path not in self._dequantized:
            self._dequantized[path] = self._dequantize(self.onnx.graph.weights[path])
        return self._dequantized[path]

    def blocks(self, path: str, size: int) -> tuple[str, str, str]:
        """The names of the integers, scales and zero points of a packed weight; see `OnnxSpelling.blocks`.

        ONNX Runtime runs the nodes that pad and reshape the integers once, when it loads the model.
        """
        if path not in self._blocks:
            self._blocks[path] = self._as_blocks(self.onnx.graph.weights[path], size)
        return self._blocks[path]

    def integer_bias(self, path: str, weight: str, scale: str) -> str | None:
        """The name of a bias in integers; None if the bias has no integer form (see `has_integer_form`).

        Nodes round the stored bias, so that the model has this tensor under its own name.  ONNX Runtime runs these
        nodes once, when it loads the model.

        Args:
            path, weight: the paths of the bias and of the weight of one layer.
            scale: the name of the stored scale of the layer's operand.
        """
        key = (path, weight, scale)
        if key not in self._biases:
            self._biases[key] = self._integer_bias(path, self.onnx.graph.weights[weight], scale)
        return self._biases[key]

    def zero_points(self, path: str, shape: tuple[int, ...]) -> str:
        """The name of the zero points of a weight in int8.

        Without zero points ONNX Runtime does not match the pattern of an integer layer, and computes in float.  Two
        weights cannot share zero points: with the session option `x64quantprecision`, ONNX Runtime converts the zero
        points once for each weight, and both conversions of shared zero points would get the same name.
        """
        import numpy as np

        return self.onnx.derived(f"{path}_zero_point", np.zeros(shape, np.int8))

    def _decode(self, weight: Weight) -> str:
        onnx, path, storage = self.onnx, weight.path, weight.storage
        if isinstance(storage, Dense):
            return onnx.stored_parts(weight)[0]
        # The decoded values are stored: no kernel computes them faster, and no operator decodes a bitmask.
        if isinstance(storage, Masked | Sparse | FakeQuantized):
            values = partial(onnx.graph.weight_values, path)
            return onnx.initializers.stored(path, ComputedTensor(weight.shape, weight.dtype.value, values))
        if isinstance(storage, LowRankStorage):
            return self._product(weight)
        if isinstance(storage, NarrowFloat):
            return self.cast(onnx.stored_parts(weight)[0], storage.dtype, weight.dtype)
        if isinstance(storage, PackedIntegers):
            decoder = PackedDecoder(partial(self._add, path), onnx.constant, storage, weight.shape)
            return decoder.weight(onnx.stored_parts(weight))
        if isinstance(storage, Float8Storage):
            q, scale = onnx.stored_parts(weight)
            return self._scaled(weight, q, scale, storage.axis)
        if not isinstance(storage, Int8):
            raise OperatorError("no-onnx-form", f"ONNX cannot decode `{path}`, which is stored as `{storage}`")
        q, scale = onnx.stored_parts(weight)
        return self._scaled(weight, q, scale, storage.axis)

    def _scaled(self, weight: Weight, q: str, scale: str, axis: int | None) -> str:
        """The name of the product of numbers and scales, computed once, when the model is loaded."""
        onnx, path = self.onnx, weight.path
        if axis is not None and len(weight.shape) > 1:
            axes = [other for other in range(len(weight.shape)) if other != axis]
            scale = onnx.shared(f"{path}/Unsqueeze", "Unsqueeze", scale, onnx.constant(axes))
        dtype = _computed_in(weight)
        floats = onnx.shared(f"{path}/Cast", "Cast", q, to=dtype)
        product = onnx.shared(f"{path}/Mul", "Mul", floats, self.cast(scale, weight.dtype, dtype))
        return self.cast(product, dtype, weight.dtype)

    def _as_blocks(self, weight: Weight, size: int) -> tuple[str, str, str]:
        add, constant, storage = partial(self._add, weight.path), self.onnx.constant, weight.storage
        assert isinstance(storage, PackedIntegers), "only packed integers have blocks"
        q, scale, *zero_points = self.onnx.stored(weight.path)
        (channels, present), (_, count) = (self.onnx.tensors[name].shape for name in (q, scale))
        expected = count * size * storage.bits // 8
        if present < expected:
            q = add("Pad", q, constant([0, 0, 0, expected - present]))
        q = add("Reshape", q, constant([channels, count, expected // count]))
        scale = self.cast(scale, storage.scale, DType.f32)
        return q, scale, zero_points[0] if zero_points else ""

    def _add(self, path: str, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node that decodes a weight."""
        return self.onnx.shared(f"{path}/{op_type}", op_type, *inputs, **attributes)

    def _product(self, weight: Weight) -> str:
        """The name of the product of a low-rank weight's factors, computed once, when the model is loaded."""
        onnx, path, dtype, storage = self.onnx, weight.path, _computed_in(weight), weight.storage
        assert isinstance(storage, LowRankStorage)
        factors = storage.factors(path, weight.shape).items()
        decoded = (self._decode(Weight(name, shape, weight.dtype, storage.of_factors)) for name, shape in factors)
        left, right = (self.cast(name, weight.dtype, dtype) for name in decoded)
        if len(weight.shape) > 2:
            right = onnx.shared(f"{path}/Flatten", "Flatten", right, axis=1)
        product = onnx.shared(f"{path}/MatMul", "MatMul", left, right)
        if len(weight.shape) > 2:
            shape = onnx.constant(list(weight.shape))
            product = onnx.shared(f"{path}/Reshape", "Reshape", product, shape)
        return self.cast(product, dtype, weight.dtype)

    def _dequantize(self, weight: Weight) -> str:
        storage = weight.storage
        if not isinstance(storage, Int8):
            return self._decode(weight)
        q, scale = self.onnx.stored(weight.path)
        zeros = self.zero_points(weight.path, () if storage.axis is None else (weight.shape[storage.axis],))
        return self._dequantize_linear(weight.path, q, scale, zeros, storage.axis)

    def _integer_bias(self, path: str, weight: Weight, scale: str) -> str | None:
        onnx = self.onnx
        if not has_integer_form(onnx, path, weight, scale):
            return None
        weight_scale = onnx.stored(weight.path)[1]
        steps = onnx.shared(f"{path}/Mul", "Mul", weight_scale, scale)
        counts = onnx.shared(f"{path}/Round", "Round", onnx.shared(f"{path}/Div", "Div", self[path], steps))
        q = onnx.shared(f"{path}/Cast", "Cast", counts, to=DType.i32)
        shape = onnx.tensors[weight_scale].shape
        zeros = onnx.constant([0] * shape[0] if shape else 0, DType.i32)
        return self._dequantize_linear(path, q, steps, zeros, 0 if shape else None)

    def _dequantize_linear(self, path: str, q: str, scale: str, zeros: str, axis: int | None) -> str:
        return self.onnx.shared(f"{path}/DequantizeLinear", "DequantizeLinear", q, scale, zeros, axis=axis)


def _computed_in(weight: Weight) -> DType:
    """The dtype in which ONNX Runtime decodes a weight."""
    dtype = wider(weight.dtype, ONNX_MOST)
    assert dtype is not None, "every floating-point dtype fits in a dtype with ONNX Runtime kernels"
    return dtype


LARGEST_BIAS_ERROR = 2.0**-20
"""The largest accepted relative rounding error of a bias whose weight row is all zeros.

The result of such a row is the bias alone, so the error of the bias is the error of the result.
"""


def has_integer_form(onnx: OnnxGraph, path: str, weight: Weight, scale: str) -> bool:
    """Return whether a bias b can be added, as int32, to the integer sums of products.

    Its steps are the products s_x s_w of the scales of operand x and weight w, and its integers are
    counts = round(b / (s_x s_w)).  The bias has no integer form in three cases:

    - int32 cannot hold the sum of the products and the bias;
    - the bias is not finite, or a product of the scales is not a normal float32;
    - a row of the weight is all zeros, and its bias has a relative error above `LARGEST_BIAS_ERROR`.  The scale of such
      a row is arbitrary, so it may be too coarse for the bias.

    Args:
        path: the path of the bias.
        scale: the name of the stored scale of the operand.
    """
    import numpy as np

    tensors = onnx.tensors
    bias = onnx.graph.weight_values(path)
    with np.errstate(over="ignore", under="ignore"):
        steps = np.broadcast_to(tensors[scale].numpy() * tensors[f"{weight.path}_scale"].numpy(), bias.shape)
    if not (np.isfinite(bias).all() and np.isfinite(steps).all() and (steps >= np.finfo(np.float32).tiny).all()):
        return False
    with np.errstate(over="ignore"):
        counts = np.rint(bias / steps).astype(np.float64)
    # A u8 operand differs from its zero point by at most 255.  So 255 times the sum of a row's absolute values bounds
    # the sum of products.
    rows = np.abs(tensors[weight.path].numpy().astype(np.int16)).reshape(len(bias), -1).sum(1, dtype=np.int64)
    lost = (rows == 0) & (np.abs(counts * steps - bias) > LARGEST_BIAS_ERROR * np.abs(bias))
    return not lost.any() and bool((np.abs(counts) + 255 * rows < 2**31).all())
