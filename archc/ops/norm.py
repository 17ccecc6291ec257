"""Normalization: over the batch, within a sample, within groups of channels, and over the last axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from archc.declaration.base import Operator, OperatorError, operator
from archc.declaration.checks import bad_attribute, check_channels, check_positive, check_probability, check_rank
from archc.declaration.dtypes import FLOATS, ONNX_FLOATS, ONNX_SINGLE, ONNX_WIDE, as_f32
from archc.declaration.parameter import Parameter, ones, zeros
from archc.declaration.spelling import OnnxSpelling, TorchModule, TorchSpelling, Verbatim, call
from archc.declaration.traits import IMPURE, Rigid
from archc.types.attributes import attribute
from archc.types.dims import SymbolicDim, product
from archc.types.extent_solver import Extent
from archc.types.signature import Signature, parse_signature
from archc.types.tensor_type import DType, TensorType

if TYPE_CHECKING:
    import numpy as np

_AFFINE = {"weight": Parameter(ones, when="affine"), "bias": Parameter(zeros, when="affine")}


@operator
class BatchNorm(Operator):
    """Normalization of each channel, with scale and shift: y = (x - mean) / √(var + eps) · weight + bias.

    In inference, mean and variance are the running statistics.  In training, they are computed from the batch, over all
    axes except the channels.  Each training step updates the running statistics: running = (1 - momentum) · running +
    momentum · batch, with the unbiased variance of the batch.
    (Ioffe and Szegedy 2015, "Batch Normalization".)
    """

    signature = (
        "x[n, c, *s], weight[c]?, bias[c]?, running_mean[c], running_var[c], num_batches_tracked[] -> y[n, c, *s]"
    )
    parameters = {
        **_AFFINE,
        "running_mean": Parameter(zeros, trainable=False),
        "running_var": Parameter(ones, trainable=False),
        "num_batches_tracked": Parameter(zeros, trainable=False, dtype=DType.i64, optional_in_files=True),
    }
    dtypes = FLOATS
    onnx_dtypes = ONNX_FLOATS
    example = "x -> bn1: batch_norm"
    traits = (IMPURE, Rigid("n", "s"))

    num_features: int | None = attribute(
        None, index="c", phrase="channels", doc="expected number of channels, if given"
    )
    eps: float = attribute(1e-5, doc="added to the variance")
    momentum: float = attribute(0.1, doc="weight of the batch in the running statistics")
    affine: bool = attribute(True, doc="multiply by a learned weight and add a learned bias")

    def check(self, types: Sequence[TensorType]) -> None:
        check_rank(self, types[0], 2, 5)
        check_positive(self, "eps")
        check_probability(self, "momentum")

    def torch(self, spell: TorchSpelling) -> str:
        weights = spell.weights
        affine = (weights["weight"], weights["bias"]) if self.affine else ()
        options = spell.options(eps=(self.eps, 1e-5))
        return call(
            "F.batch_norm", *spell.operands, weights["running_mean"], weights["running_var"], *affine, **options
        )

    def torch_module(self, spell: TorchSpelling) -> TorchModule:
        return TorchModule(
            f"nn.BatchNorm{_spatial_rank(spell.types[0])}d",
            {"num_features": spell.sizes["c"]},
            {"eps": (self.eps, 1e-5), "momentum": (self.momentum, 0.1), "affine": (self.affine, True)},
        )

    def onnx(self, spell: OnnxSpelling) -> str:
        scale, shift = _onnx_affine(spell, [spell.sizes["c"]])
        mean, variance = spell.weights["running_mean"], spell.weights["running_var"]
        if spell.types[0].dtype is DType.f64:  # the attribute `epsilon` is an f32: add its rounding error
            variance = spell.add("Add", variance, spell.constant(self.eps - as_f32(self.eps), DType.f64))
        return spell.add("BatchNormalization", *spell.operands, scale, shift, mean, variance, epsilon=self.eps)

    def channel_map(self, weights: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        scale = weights.get("weight", 1.0) / (weights["running_var"] + self.eps) ** 0.5
        return scale, weights.get("bias", 0.0) - weights["running_mean"] * scale


@operator
class InstanceNorm(Operator):
    """Normalization of each channel of each sample: y = (x - mean) / √(var + eps) · weight + bias.

    Mean and variance are over the spatial axes.  As in PyTorch, weight and bias are off by default.
    (Ulyanov et al. 2016, "Instance Normalization: The Missing Ingredient for Fast Stylization".)
    """

    signature = "x[n, c, *s], weight[c]?, bias[c]? -> y[n, c, *s]"
    parameters = _AFFINE
    dtypes = FLOATS
    onnx_dtypes = ONNX_SINGLE
    example = "x -> instance_norm"
    traits = (Rigid("s"),)

    num_features: int | None = attribute(
        None, index="c", phrase="channels", doc="expected number of channels, if given"
    )
    eps: float = attribute(1e-5, doc="added to the variance")
    affine: bool = attribute(False, doc="multiply by a learned weight and add a learned bias")

    def check(self, types: Sequence[TensorType]) -> None:
        check_rank(self, types[0], 3, 5)
        check_positive(self, "eps")
        if all(size == 1 for size in types[0].shape[2:]):
            raise OperatorError(
                "shape-mismatch",
                f"`instance_norm` expects more than one element in a channel, got {types[0]}",
                operand=0,
            )

    def minimum_sizes(self, types: Sequence[TensorType]) -> Sequence[tuple[Extent, int]]:
        return [(product(types[0].shape[2:]), 2)]

    def torch(self, spell: TorchSpelling) -> str:
        weights = {name: Verbatim(text) for name, text in spell.weights.items()}
        options = spell.options(eps=(self.eps, 1e-5))
        return call("F.instance_norm", *spell.operands, **weights, **options)

    def torch_module(self, spell: TorchSpelling) -> TorchModule | None:
        if not self.affine:
            return None
        return TorchModule(
            f"nn.InstanceNorm{_spatial_rank(spell.types[0])}d",
            {"num_features": spell.sizes["c"]},
            {"eps": (self.eps, 1e-5), "affine": (self.affine, False)},
        )

    def onnx(self, spell: OnnxSpelling) -> str:
        scale, shift = _onnx_affine(spell, [spell.sizes["c"]])
        return spell.add("InstanceNormalization", *spell.operands, scale, shift, epsilon=self.eps)


@operator
class GroupNorm(Operator):
    """Normalization of groups of channels of each sample: y = (x - mean) / √(var + eps) · weight + bias.

    Mean and variance are over the channels of the group and all spatial axes; weight and bias are per channel.
    (Wu and He 2018, "Group Normalization".)
    """

    signature = "x[n, g*c, *s], weight[g*c]?, bias[g*c]? -> y[n, g*c, *s]"
    parameters = _AFFINE
    dtypes = FLOATS
    onnx_dtypes = ONNX_SINGLE
    example = "x -> norm1: group_norm(8)"
    traits = (Rigid("c", "s"),)

    num_groups: int = attribute(index="g", phrase="groups", doc="number of groups of channels")
    num_channels: int | None = attribute(None, doc="expected number of channels, if given")
    eps: float = attribute(1e-5, doc="added to the variance")
    affine: bool = attribute(True, doc="multiply by a learned weight and add a learned bias")

    def check(self, types: Sequence[TensorType]) -> None:
        check_positive(self, "num_groups", "eps")
        check_channels(self, "num_channels", types[0])
        if self._elements(types[0]) == 1:
            raise OperatorError(
                "shape-mismatch",
                f"`group_norm` expects more than one element in a group, got {types[0]}",
                operand=0,
            )

    def minimum_sizes(self, types: Sequence[TensorType]) -> Sequence[tuple[Extent, int]]:
        return [(self._elements(types[0]), 2)]

    def _elements(self, operand: TensorType) -> Extent:
        """Number of elements in one group over all samples; PyTorch rejects 1."""
        samples, channels, *spatial = operand.shape
        return product([samples, channels // self.num_groups, *spatial])

    def with_extents(self, types: Sequence[TensorType], extents: Mapping[str, Any]) -> Self:
        channels = None if self.num_channels is None else extents["g"] * extents["c"]
        return replace(self, num_groups=extents["g"], num_channels=channels)

    def torch(self, spell: TorchSpelling) -> str:
        options = spell.options(eps=(self.eps, 1e-5))
        return call("F.group_norm", *spell.operands, self.num_groups, *spell.weights.values(), **options)

    def torch_module(self, spell: TorchSpelling) -> TorchModule | None:
        if not self.affine:
            return None
        return TorchModule(
            "nn.GroupNorm",
            {"num_groups": self.num_groups, "num_channels": spell.sizes["g"] * spell.sizes["c"]},
            {"eps": (self.eps, 1e-5)},
        )

    def onnx(self, spell: OnnxSpelling) -> str:
        """Add `InstanceNormalization` of the groups.

        ONNX Runtime has no kernel for `GroupNormalization`, and replaces it by several nodes.  These nodes take 1.5 to
        2 times as long as the nodes here, and reject an empty batch.  They compute the variance as E[x²] - E[x]², which
        has no correct digit if the mean is 1000 times the standard deviation.
        """
        shape, groups = spell.types[0].shape, self.num_groups
        rows = spell.reshape(spell.operands[0], (shape[0], groups, spell.sizes["c"] * product(shape[2:])))
        ones, zeros = (_onnx_full(spell, value, [groups]) for value in (1.0, 0.0))
        rows = spell.add("InstanceNormalization", rows, ones, zeros, epsilon=self.eps)
        result = spell.reshape(rows, shape)
        if not self.affine:
            return result
        channels = [spell.sizes["g"] * spell.sizes["c"]]
        mean, variance = (_onnx_full(spell, value, channels) for value in (0.0, 1.0))
        weight, bias = spell.weights["weight"], spell.weights["bias"]
        return spell.add("BatchNormalization", result, weight, bias, mean, variance, epsilon=0.0)


def _spatial_rank(operand: TensorType) -> int:
    """Number of spatial axes in the name of the PyTorch module: 2 for `BatchNorm2d`; at least 1."""
    return max(1, operand.rank - 2)


def _onnx_affine(spell: OnnxSpelling, shape: Sequence[Extent]) -> tuple[str, str]:
    """Names of scale and shift, which ONNX requires: ones and zeros if the operator has no weights."""
    if "weight" in spell.weights:
        return spell.weights["weight"], spell.weights["bias"]
    return _onnx_full(spell, 1.0, shape), _onnx_full(spell, 0.0, shape)


def _onnx_full(spell: OnnxSpelling, value: float, shape: Sequence[Extent]) -> str:
    """A tensor with one value, in the dtype of the first operand."""
    number = spell.constant(value, spell.types[0].dtype)
    return spell.add("Expand", number, spell.shape(shape))


@operator
class LastAxesNorm(Operator, abstract=True):
    """Base of normalizations of the last axes."""

    family = "norm"
    dtypes = FLOATS
    onnx_dtypes = ONNX_FLOATS
    traits = (Rigid("d"),)

    normalized_shape: int | tuple[int, ...] | None = attribute(
        None, doc="expected sizes of the normalized axes; by default the last axis, of any size"
    )
    dims: int | None = attribute(None, keyword=True, doc="number of last axes to normalize")

    def check(self, types: Sequence[TensorType]) -> None:
        check_positive(self, "dims", "eps")
        if self.dims is not None and self.normalized_shape is not None and self.dims != len(self._sizes):
            raise bad_attribute(self, "dims", f"{len(self._sizes)}, the number of sizes in `normalized_shape`")
        if self._dims == 0:
            raise bad_attribute(self, "normalized_shape", "at least one size")
        if self._dims > types[0].rank:
            raise OperatorError(
                "rank-mismatch", f"`{self.name}` expects at least {self._dims} axes, got {types[0]}", operand=0
            )
        last = types[0].shape[types[0].rank - self._dims :]
        if self.normalized_shape is not None and self._sizes != last:
            wanted, found = (", ".join(str(size) for size in sizes) for sizes in (self._sizes, last))
            raise OperatorError(
                "shape-mismatch",
                f"`{self.name}` expects {wanted} as the sizes of the last axes, got {found}",
                operand=0,
                attribute="normalized_shape",
            )

    @property
    def _sizes(self) -> tuple[int, ...]:
        shape = self.normalized_shape
        return () if shape is None else (shape,) if isinstance(shape, int) else shape

    @property
    def _dims(self) -> int:
        return self.dims or (1 if self.normalized_shape is None else len(self._sizes))

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        if self._dims == 1 or not types:
            return parse_signature(self.signature)
        if self._dims > types[0].rank:
            raise OperatorError(
                "rank-mismatch",
                f"`{self.name}` expects at least {self._dims} axes, got {types[0]}",
                operand=0,
            )
        axes = ", ".join(f"d{number}" for number in range(self._dims))
        return parse_signature(self.signature.replace("d]", f"{axes}]"))

    @property
    def _axes(self) -> list[int]:
        """The normalized axes, counted from the end."""
        return list(range(-self._dims, 0))

    def _last(self, shape: Sequence[int | SymbolicDim]) -> tuple[int | SymbolicDim, ...]:
        return tuple(shape[len(shape) - self._dims :])

    def _torch_shape(self, spell: TorchSpelling) -> str:
        """The normalized sizes as PyTorch's functions take them."""
        return f"[{', '.join(spell.size(dim) for dim in self._last(spell.types[0].shape))}]"

    def _module_shape(self, spell: TorchSpelling) -> Extent | tuple[Extent, ...]:
        """The normalized sizes as PyTorch's modules take them; all are known if there are weights."""
        sizes = self._last(spell.types[0].shape)
        return sizes[0] if len(sizes) == 1 else sizes


@operator
class LayerNorm(LastAxesNorm):
    """Normalization along the last axis or axes: y = (x - mean) / √(var + eps) · weight + bias.

    (Ba et al. 2016, "Layer Normalization".)
    """

    signature = "x[*b, d], weight[d]?, bias[d]? -> y[*b, d]"
    parameters = {"weight": Parameter(ones, when="elementwise_affine"), "bias": Parameter(zeros)}
    example = "x -> ln1: layer_norm"

    eps: float = attribute(1e-5, doc="added to the variance")
    elementwise_affine: bool = attribute(True, doc="multiply by a learned weight and add a learned bias")
    bias: bool = attribute(True, doc="add the learned bias")

    def has_parameter(self, name: str) -> bool:
        return self.elementwise_affine and (name == "weight" or self.bias)

    def torch(self, spell: TorchSpelling) -> str:
        options = spell.options(eps=(self.eps, 1e-5))
        return call("F.layer_norm", *spell.operands, self._torch_shape(spell), *spell.weights.values(), **options)

    def torch_module(self, spell: TorchSpelling) -> TorchModule | None:
        if not self.elementwise_affine:
            return None
        return TorchModule(
            "nn.LayerNorm",
            {"normalized_shape": self._module_shape(spell)},
            {"eps": (self.eps, 1e-5), "bias": (self.bias, True)},
        )

    def onnx(self, spell: OnnxSpelling) -> str:
        if spell.types[0].dtype is DType.f64:
            return self._onnx_exact(spell)
        scale = spell.weights.get("weight") or _onnx_full(spell, 1.0, self._last(spell.types[0].shape))
        shift = [spell.weights["bias"]] if "bias" in spell.weights else []
        return spell.add("LayerNormalization", *spell.operands, scale, *shift, axis=-self._dims, epsilon=self.eps)

    def _onnx_exact(self, spell: OnnxSpelling) -> str:
        """Add a node for each operation of the formula, for f64: `epsilon` of `LayerNormalization` is an f32."""
        x, axes = spell.operands[0], spell.constant(self._axes)
        deviation = spell.add("Sub", x, spell.add("ReduceMean", x, axes, keepdims=1))
        variance = spell.add("ReduceMean", spell.add("Mul", deviation, deviation), axes, keepdims=1)
        root = spell.add("Sqrt", spell.add("Add", variance, spell.constant(self.eps, DType.f64)))
        result = spell.add("Div", deviation, root)
        for op_type, name in (("Mul", "weight"), ("Add", "bias")):
            result = spell.add(op_type, result, spell.weights[name]) if name in spell.weights else result
        return result


@operator
class RmsNorm(LastAxesNorm):
    """Division by the root mean square along the last axis or axes: y = x / √(mean(x²) + eps) · weight.

    (Zhang and Sennrich 2019, "Root Mean Square Layer Normalization".)
    """

    signature = "x[*b, d], weight[d]? -> y[*b, d]"
    parameters = {"weight": Parameter(ones, when="elementwise_affine")}
    onnx_dtypes = ONNX_WIDE
    example = "x -> norm1: rms_norm"

    eps: float | None = attribute(None, doc="added to the mean square; by default the machine epsilon of the dtype")
    elementwise_affine: bool = attribute(True, doc="multiply by a learned weight")

    def torch(self, spell: TorchSpelling) -> str:
        options = spell.options(eps=(self.eps, None))
        return call("F.rms_norm", *spell.operands, self._torch_shape(spell), *spell.weights.values(), **options)

    def torch_module(self, spell: TorchSpelling) -> TorchModule | None:
        if not self.elementwise_affine:
            return None
        return TorchModule("nn.RMSNorm", {"normalized_shape": self._module_shape(spell)}, {"eps": (self.eps, None)})

    def onnx(self, spell: OnnxSpelling) -> str:
        x, dtype = spell.operands[0], spell.types[0].dtype
        eps = MACHINE_EPSILON[dtype] if self.eps is None else self.eps
        mean = spell.add("ReduceMean", spell.add("Mul", x, x), spell.constant(self._axes), keepdims=1)
        root = spell.add("Sqrt", spell.add("Add", mean, spell.constant(eps, dtype)))
        result = spell.add("Div", x, root)
        return spell.add("Mul", result, spell.weights["weight"]) if self.elementwise_affine else result


MACHINE_EPSILON = {DType.f64: 2.0**-52, DType.f32: 2.0**-23, DType.f16: 2.0**-10, DType.bf16: 2.0**-7}
"""Difference between 1 and the next larger number, as `torch.finfo(dtype).eps`."""
