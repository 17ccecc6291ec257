"""Normalization of the last axes, as transformers have it: `layer_norm` and `rms_norm`."""

from __future__ import annotations

from collections.abc import Sequence

from archc.operator.base import Operator, OperatorError, operator
from archc.operator.checks import bad_attribute, check_positive
from archc.operator.dtypes import FLOATS, ONNX_FLOATS, ONNX_WIDE
from archc.operator.parameter import Parameter, ones, zeros
from archc.operator.spelling import OnnxSpelling, TorchModule, TorchSpelling, call
from archc.ops.norm import onnx_full
from archc.types.attributes import attribute
from archc.types.dims import SymbolicDim
from archc.types.extent_solver import Extent
from archc.types.signature import Signature, parse_signature
from archc.types.tensor_type import DType, TensorType


@operator
class LastAxesNorm(Operator, abstract=True):
    """What `layer_norm` and `rms_norm` share: which axes they normalize."""

    family = "norm"
    dtypes = FLOATS
    onnx_dtypes = ONNX_FLOATS

    normalized_shape: int | tuple[int, ...] | None = attribute(
        None, doc="sizes of the axes that are normalized, checked where given; by default the last axis, of any size"
    )
    dims: int | None = attribute(None, keyword=True, doc="how many of the last axes are normalized")

    def check(self, types: Sequence[TensorType]) -> None:
        check_positive(self, "dims", "eps")
        if self.dims is not None and self.normalized_shape is not None and self.dims != len(self._sizes):
            raise bad_attribute(self, "dims", f"{len(self._sizes)}, as many as `normalized_shape` has")
        if self._dims == 0:
            raise bad_attribute(self, "normalized_shape", "at least one size")
        if self._dims > types[0].rank:
            raise OperatorError(
                "rank-mismatch", f"`{self.name}` normalizes {self._dims} axes, got {types[0]}", operand=0
            )
        last = types[0].shape[types[0].rank - self._dims :]
        if self.normalized_shape is not None and self._sizes != last:
            wanted, found = (", ".join(str(size) for size in sizes) for sizes in (self._sizes, last))
            raise OperatorError(
                "shape-mismatch",
                f"`{self.name}` expects {wanted} as the size of the last axes, got {found}",
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
                f"`{self.name}` normalizes {self._dims} axes, got {types[0]}",
                operand=0,
            )
        axes = ", ".join(f"d{number}" for number in range(self._dims))
        return parse_signature(self.signature.replace("d]", f"{axes}]"))

    def rigid_for(self, types: Sequence[TensorType]) -> tuple[str, ...]:
        return ("d", *(f"d{number}" for number in range(self._dims)))

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
        """The normalized sizes as PyTorch's modules take them; all are known where there are weights."""
        sizes = self._last(spell.types[0].shape)
        return sizes[0] if len(sizes) == 1 else sizes


@operator
class LayerNorm(LastAxesNorm):
    """Normalizes each vector of the last axis (or last axes): y = (x - mean) / √(var + eps) · weight + bias.

    (Ba et al. 2016, "Layer Normalization".)
    """

    signature = "x[*b, d], weight[d]?, bias[d]? -> y[*b, d]"
    parameters = {"weight": Parameter(ones, when="elementwise_affine"), "bias": Parameter(zeros)}
    example = "x -> ln1: layer_norm"

    eps: float = attribute(1e-5, doc="added to the variance")
    elementwise_affine: bool = attribute(True, doc="scale and shift by learned numbers")
    bias: bool = attribute(True, doc="shift as well as scale")

    def has_parameter(self, name: str) -> bool:
        return self.elementwise_affine and (name == "weight" or self.bias)

    def torch(self, spell: TorchSpelling) -> str:
        options = {} if self.eps == 1e-5 else {"eps": self.eps}
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
        scale = spell.weights.get("weight") or onnx_full(spell, 1.0, self._last(spell.types[0].shape))
        shift = [spell.weights["bias"]] if "bias" in spell.weights else []
        return spell.add("LayerNormalization", *spell.operands, scale, *shift, axis=-self._dims, epsilon=self.eps)

    def _onnx_exact(self, spell: OnnxSpelling) -> str:
        """Spell the formula node by node, for f64: `epsilon` of `LayerNormalization` is an f32."""
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
    """Divides each vector of the last axis (or last axes) by its root mean square: y = x / √(mean(x²) + eps) · weight.

    (Zhang and Sennrich 2019, "Root Mean Square Layer Normalization".)
    """

    signature = "x[*b, d], weight[d]? -> y[*b, d]"
    parameters = {"weight": Parameter(ones, when="elementwise_affine")}
    onnx_dtypes = ONNX_WIDE
    example = "x -> norm1: rms_norm"

    eps: float | None = attribute(None, doc="added to the mean square; by default the dtype's machine epsilon")
    elementwise_affine: bool = attribute(True, doc="scale by learned numbers")

    def torch(self, spell: TorchSpelling) -> str:
        options = {} if self.eps is None else {"eps": self.eps}
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
"""The distance from 1 to the next number, as `torch.finfo(dtype).eps`."""
