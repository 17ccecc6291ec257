"""Resized images: `upsample`, and shuffles between channels and pixels.

`upsample` selects the same source elements as PyTorch: see `archc.ops.source_positions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from archc.declaration.axes import plain_axes
from archc.declaration.base import Operator, OperatorError, operator, symbolic
from archc.declaration.checks import check_positive
from archc.declaration.dtypes import FLOATS, ONNX_FLOATS, dtype_set
from archc.declaration.spelling import OnnxSpelling, TorchSpelling, Verbatim, call, literal, method
from archc.declaration.traits import Homogeneous
from archc.declaration.windows import LARGEST_SIZE
from archc.ops.rearrange import Rearrangement
from archc.ops.source_positions import CUBIC_COEFFICIENT, Resampling, layout_matters, resample
from archc.types.attributes import attribute
from archc.types.dims import SymbolicDim, scaled
from archc.types.extent_solver import Extent
from archc.types.signature import Apply, Axis, Index, Pattern, Signature
from archc.types.tensor_type import DType, TensorType

_MODES = {
    "nearest": ("nearest", (3, 4, 5)),
    "linear": ("linear", (3,)),
    "bilinear": ("linear", (4,)),
    "trilinear": ("linear", (5,)),
    "bicubic": ("cubic", (4,)),
}
"""ONNX's name of each mode, and the operand ranks for which PyTorch supports the mode."""
_DEPTH_TO_SPACE = dtype_set("f64 f32 f16 i8 u8")
"""Dtypes of ONNX Runtime's kernel for `DepthToSpace`."""


@operator
class Upsample(Operator):
    """Interpolation of an image (or sequence, or volume) to another size: x[n, c, ...] -> y[n, c, ...].

    Give either `size` or `scale_factor`: one number for all spatial axes, or one for each.  A factor changes
    the size L of an axis to ⌊L · factor⌋.  By default the outer edges of operand and result coincide; with
    `align_corners` the centres of their corner pixels coincide.  The size may be the size of another tensor:
    `upsample((H, W))` in a block that has `input skip: f32[B, C, H, W]`.
    """

    signature = "x[n, c, *s] -> y[n, c, *t]"
    dtypes = FLOATS
    onnx_dtypes = ONNX_FLOATS
    traits = (Homogeneous(),)
    example = 'x -> upsample(scale_factor = 2, mode = "bilinear")'

    size: int | SymbolicDim | tuple[int | SymbolicDim, ...] | None = attribute(None, doc="size of the result")
    scale_factor: int | float | tuple[int | float, ...] | None = attribute(
        None, doc="ratio of the size of the result to that of the operand"
    )
    mode: Literal["nearest", "linear", "bilinear", "trilinear", "bicubic"] = attribute("nearest", doc="interpolation")
    align_corners: bool = attribute(False, doc="align the centres of the corner pixels")

    def check(self, types: Sequence[TensorType]) -> None:
        rank = types[0].rank
        if (self.size is None) == (self.scale_factor is None):
            raise OperatorError("bad-attribute", "`upsample` expects either `size` or `scale_factor`")
        if rank not in _MODES[self.mode][1]:
            fitting = next((name for name in ("linear", "bilinear", "trilinear") if rank in _MODES[name][1]), None)
            raise OperatorError(
                "bad-attribute",
                f'mode "{self.mode}" of `upsample` expects {" or ".join(map(str, _MODES[self.mode][1]))} axes,'
                f" got {types[0]}",
                attribute="mode",
                help=f'write `mode = "{fitting}"`' if fitting else None,
            )
        if self.align_corners and self.mode == "nearest":
            raise OperatorError("bad-attribute", 'mode "nearest" has no corners to align', attribute="align_corners")
        given, name = (self.size, "size") if self.size is not None else (self.scale_factor, "scale_factor")
        values = given if isinstance(given, tuple) else (given,) * (rank - 2)
        known = [value for value in values if not isinstance(value, SymbolicDim)]
        if len(values) != rank - 2 or any(value is None or not 0 < value <= LARGEST_SIZE for value in known):
            raise OperatorError(
                "bad-attribute",
                f"`{name}` must be positive and at most {LARGEST_SIZE}: one number, or {rank - 2} of them",
                attribute=name,
            )
        for position, extent in enumerate(types[0].shape[2:]):
            if self.resized(extent, position) == 0:
                raise OperatorError(
                    "shape-mismatch",
                    f"`upsample` resizes an axis of {extent} to 0 elements",
                    operand=0,
                    attribute="scale_factor",
                    help="use a larger `scale_factor`, or `size`",
                )

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        if len(types) != 1 or types[0].rank < 3:
            return super().signature_for(types)
        axes = plain_axes(types[0].rank)
        sized = [Axis(((Apply("resized", Index(f"d{number}")),),)) for number in range(2, len(axes))]
        return Signature((Pattern("x", tuple(axes)),), (Pattern("y", (*axes[:2], *sized)),))

    def resized(self, extent: Extent, position: int) -> Extent:
        """Size of a spatial axis of the result."""
        if self.size is not None:
            return self.size[position] if isinstance(self.size, tuple) else self.size
        factor = self.scale_factor[position] if isinstance(self.scale_factor, tuple) else self.scale_factor
        assert factor is not None, "`check` requires `size` or `scale_factor`"
        return scaled(extent, factor)

    def torch(self, spell: TorchSpelling) -> str:
        named: dict[str, Any] = {"scale_factor": self.scale_factor}
        if self.size is not None:
            named = {"size": _spelled(self.size, spell)}
        named |= spell.options(mode=(self.mode, "nearest"))
        if self.mode != "nearest":  # PyTorch refuses `align_corners=False` in the mode "nearest"
            named |= spell.options(align_corners=(self.align_corners, False))
        operand = spell.operands[0]
        if self.mode == "nearest" and layout_matters(self._axes(spell.types[0], spell.results[0])):
            operand = method(operand, "contiguous")
        return call("F.interpolate", operand, **named)

    def onnx(self, spell: OnnxSpelling) -> str:
        axes = self._axes(spell.types[0], spell.results[0])
        factors = [axis.power_of_two for axis in axes]
        if spell.types[0].dtype is DType.f32 and not self.align_corners and None not in factors:
            return self._resize(spell, [factor or 1.0 for factor in factors])
        return resample(spell, _MODES[self.mode][0], axes)

    def _axes(self, before: TensorType, after: TensorType) -> list[Resampling]:
        factors = self.scale_factor if isinstance(self.scale_factor, tuple) else [self.scale_factor] * (before.rank - 2)
        double = before.dtype is DType.f64
        return [
            Resampling(old, new, factor, self.align_corners, double)
            for old, new, factor in zip(before.shape[2:], after.shape[2:], factors, strict=True)
        ]

    def _resize(self, spell: OnnxSpelling, factors: Sequence[float]) -> str:
        """Add `Resize`, for factors that are powers of two.

        For such factors, ONNX Runtime's kernel computes exact positions in f32.  The kernel takes half the time of the
        nodes that `resample` adds.
        """
        kind = _MODES[self.mode][0]
        return spell.add(
            "Resize",
            spell.operands[0],
            "",
            spell.constant([1.0, 1.0, *factors]),
            mode=kind,
            coordinate_transformation_mode="asymmetric" if kind == "nearest" else "half_pixel",
            nearest_mode="floor" if kind == "nearest" else None,
            cubic_coeff_a=CUBIC_COEFFICIENT if kind == "cubic" else None,
        )


def _spelled(size: Extent | tuple[Extent, ...], spell: TorchSpelling) -> Verbatim:
    """PyTorch expression for a size, or for a tuple with a size for each axis."""
    if isinstance(size, tuple):
        return Verbatim(literal(tuple(_spelled(one, spell) for one in size)))
    return Verbatim(spell.size(size))


@operator
class PixelShuffle(Rearrangement):
    """Channels moved to pixels: y[n, c, h·r + i, w·r + j] = x[n, (c·r + i)·r + j, h, w]."""

    example = "x -> pixel_shuffle(2)"

    upscale_factor: int = attribute(doc="factor of height and width")

    def pattern_for(self, types: Sequence[TensorType]) -> str:
        return "*b (c i j) h w -> *b c (h i) (w j)"

    def pattern_sizes(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        return {"i": self.upscale_factor, "j": self.upscale_factor}

    def check(self, types: Sequence[TensorType]) -> None:
        check_positive(self, "upscale_factor")

    def torch(self, spell: TorchSpelling) -> str:
        return call("F.pixel_shuffle", *spell.operands, self.upscale_factor)

    def onnx(self, spell: OnnxSpelling) -> str:
        if spell.types[0].rank != 4 or spell.types[0].dtype not in _DEPTH_TO_SPACE:
            return super().onnx(spell)
        return spell.add("DepthToSpace", *spell.operands, blocksize=self.upscale_factor, mode="CRD")


@operator
class PixelUnshuffle(Rearrangement):
    """Pixels moved to channels; the inverse of `pixel_shuffle`."""

    example = "x -> pixel_unshuffle(2)"

    downscale_factor: int = attribute(doc="divisor of height and width")

    def pattern_for(self, types: Sequence[TensorType]) -> str:
        return "*b c (h i) (w j) -> *b (c i j) h w"

    def pattern_sizes(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        return {"i": self.downscale_factor, "j": self.downscale_factor}

    def check(self, types: Sequence[TensorType]) -> None:
        check_positive(self, "downscale_factor")

    def torch(self, spell: TorchSpelling) -> str:
        if any(symbolic(size) for size in spell.types[0].shape):
            # A symbolic size may be 0, and PyTorch's function does not reshape an empty operand.
            return super().torch(spell)
        return call("F.pixel_unshuffle", *spell.operands, self.downscale_factor)


@operator
class ChannelShuffle(Rearrangement):
    """Transposition of groups and channels: [n, (g c), ...] becomes [n, (c g), ...].

    (Zhang et al. 2018, "ShuffleNet".)
    """

    example = "x -> channel_shuffle(4)"

    groups: int = attribute(doc="number of groups of channels")

    def pattern_for(self, types: Sequence[TensorType]) -> str:
        return "n (g c) *s -> n (c g) *s"

    def pattern_sizes(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        return {"g": self.groups}

    def check(self, types: Sequence[TensorType]) -> None:
        check_positive(self, "groups")
        if types[0].rank < 3:
            raise OperatorError(
                "rank-mismatch", f"`channel_shuffle` expects at least 3 axes, got {types[0]}", operand=0
            )

    def torch(self, spell: TorchSpelling) -> str:
        return call("F.channel_shuffle", *spell.operands, self.groups)
