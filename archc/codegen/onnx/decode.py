"""What stored weights become in ONNX: an initializer as it is, or integers with the nodes that decode them.

ONNX Runtime treats two spellings of one decoding differently.  A `Cast` and a `Mul` over constants it computes once,
when the model is loaded.  A `DequantizeLinear` it keeps: for its integer kernels, which want to see it on both operands
of a product.  Where only the weight is stored as integers it would run each time (a linear from 1024 to 4096 takes four
times as long at batch 1), or become a kernel that rounds the activations as well.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from archc.operator.base import OperatorError
from archc.operator.dtypes import ONNX_MOST, wider
from archc.types.storage import Dense, Int8, LowRankStorage, Masked, Weight
from archc.types.tensor_type import DType
from archc.weights.tensor import ComputedTensor

if TYPE_CHECKING:
    import numpy as np

    from archc.codegen.onnx.builder import Builder


def decode(builder: Builder, weight: Weight) -> str:
    """The name of a weight's decoded value, for float kernels.

    Raises:
        OperatorError: ONNX cannot decode such a storage.
    """
    storage = weight.storage
    if isinstance(storage, Dense):
        return builder.stored(weight.path)[0]
    if isinstance(storage, Masked):  # the zeros themselves: no kernel would skip them, and none need multiply
        values = partial(builder.graph.weight_values, weight.path)
        return builder.initializers.stored(weight.path, ComputedTensor(weight.shape, weight.dtype.value, values))
    if isinstance(storage, LowRankStorage):
        return _product(builder, weight)
    if not isinstance(storage, Int8):
        raise OperatorError("no-onnx-form", f"ONNX cannot decode `{weight.path}`, which is stored as `{storage}`")
    q, scale = builder.stored(weight.path)
    if storage.axis is not None and len(weight.shape) > 1:
        axes = [axis for axis in range(len(weight.shape)) if axis != storage.axis]
        scale = builder.shared(f"{weight.path}/Unsqueeze", "Unsqueeze", scale, builder.constant(axes))
    dtype = wider(weight.dtype, ONNX_MOST)
    assert dtype is not None, "a floating-point dtype has one that kernels know"
    floats = builder.shared(f"{weight.path}/Cast", "Cast", q, to=dtype)
    product = builder.shared(f"{weight.path}/Mul", "Mul", floats, builder.cast(scale, weight.dtype, dtype))
    return builder.cast(product, dtype, weight.dtype)


def _product(builder: Builder, weight: Weight) -> str:
    """The product of two factors, which runtimes compute once, when they load the model."""
    dtype = wider(weight.dtype, ONNX_MOST)
    assert dtype is not None, "a floating-point dtype has one that kernels know"
    left, right = (builder.cast(name, weight.dtype, dtype) for name in builder.stored(weight.path))
    if len(weight.shape) > 2:
        right = builder.shared(f"{weight.path}/Flatten", "Flatten", right, axis=1)
    product = builder.shared(f"{weight.path}/MatMul", "MatMul", left, right)
    if len(weight.shape) > 2:
        shape = builder.constant(list(weight.shape))
        product = builder.shared(f"{weight.path}/Reshape", "Reshape", product, shape)
    return builder.cast(product, dtype, weight.dtype)


def dequantize(builder: Builder, weight: Weight) -> str:
    """The name of a weight's decoded value, for integer kernels: decoded by a `DequantizeLinear` where it can be."""
    storage = weight.storage
    if not isinstance(storage, Int8):
        return decode(builder, weight)
    q, scale = builder.stored(weight.path)
    zeros = zero_points(builder, weight.path, () if storage.axis is None else (weight.shape[storage.axis],))
    return _dequantize_linear(builder, weight.path, q, scale, zeros, storage.axis)


def zero_points(builder: Builder, path: str, shape: tuple[int, ...]) -> str:
    """The name of the zero points of a weight in int8.

    Without them ONNX Runtime does not match the pattern of an integer layer, and computes in float.  Two weights cannot
    share them: with the session option `x64quantprecision` it converts them once for each weight, under the same name.
    """
    import numpy as np

    return builder.derived(f"{path}_zero_point", np.zeros(shape, np.int8))


LARGEST_BIAS_ERROR = 2.0**-20
"""The largest relative error of a bias whose row of the weight is zero: the bias is the whole result of that row."""


class IntegerBias(NamedTuple):
    """A bias in the integers that the products of a weight and a quantized operand add up to: b ≈ steps · counts."""

    counts: np.ndarray[Any, Any]
    steps: np.ndarray[Any, Any]


def rounded_bias(builder: Builder, path: str, weight: Weight, scale: str) -> IntegerBias | None:
    """A bias in integers, counts = round(b / (s_x s_w)), in int32.

    None if int32 cannot hold the sum of the products and the bias, if a product of the scales is not a normal float32,
    or if the bias of an all-zero row, whose scale is arbitrary, would have a relative error above `LARGEST_BIAS_ERROR`.

    Args:
        path: the bias; scale: the stored scale of the operand.
    """
    import numpy as np

    tensors = builder.graph.tensors
    assert tensors is not None, "the emitter checks that weights are bound"
    bias = builder.graph.weight_values(path).astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        steps = np.broadcast_to(tensors[scale].numpy() * tensors[f"{weight.path}_scale"].numpy(), bias.shape)
    if not (np.isfinite(bias).all() and np.isfinite(steps).all() and (steps >= np.finfo(np.float32).tiny).all()):
        return None
    counts = np.rint(bias / steps)
    # A u8 operand differs from its zero point by at most 255, which bounds each sum of products by 255 times its row.
    rows = np.abs(tensors[weight.path].numpy().astype(np.int16)).reshape(len(bias), -1).sum(1, dtype=np.int64)
    lost = (rows == 0) & (np.abs(counts * steps - bias) > LARGEST_BIAS_ERROR * np.abs(bias))
    if lost.any() or not (np.abs(counts) + 255 * rows < 2**31).all():
        return None
    return IntegerBias(counts.astype(np.int32), steps)


def integer_bias(builder: Builder, path: str, weight: Weight, scale: str) -> str | None:
    """The name of a bias in integers, or None where it has no such form; the arguments are those of `rounded_bias`."""
    bias = rounded_bias(builder, path, weight, scale)
    if bias is None:
        return None
    q = builder.derived(f"{path}/int32", bias.counts)
    zeros = builder.constant([0] * len(bias.counts), DType.i32)
    return _dequantize_linear(builder, path, q, builder.derived(f"{path}/int32_scale", bias.steps), zeros, 0)


def _dequantize_linear(builder: Builder, path: str, q: str, scale: str, zeros: str, axis: int | None) -> str:
    return builder.shared(f"{path}/DequantizeLinear", "DequantizeLinear", q, scale, zeros, axis=axis)
