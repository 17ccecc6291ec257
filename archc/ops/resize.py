"""Images of another size: `upsample`, and the shuffles between channels and pixels."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

from archc.ir.attributes import attribute
from archc.ir.dims import floor_divide
from archc.ir.signature import Apply, Axis, Index, Pattern, Signature
from archc.ir.solve import Extent
from archc.ir.types import TensorType
from archc.ops.axes import plain_axes
from archc.ops.checks import check_positive
from archc.ops.dtypes import FLOATS, ONNX_SINGLE, named
from archc.ops.layout import Layout
from archc.ops.operator import Operator, OperatorError, operator
from archc.ops.spelling import OnnxSpelling, TorchSpelling, call

_MODES = {
    "nearest": ("nearest", (3, 4, 5)),
    "linear": ("linear", (3,)),
    "bilinear": ("linear", (4,)),
    "trilinear": ("linear", (5,)),
    "bicubic": ("cubic", (4,)),
}
"""ONNX's name of each mode, and the ranks that PyTorch has it for."""
_DEPTH_TO_SPACE = named("f64 f32 f16 i8 u8")
"""The dtypes that ONNX Runtime's kernel of `DepthToSpace` has."""


@operator
class Upsample(Operator):
    """An image (or sequence, or volume) at another size, by interpolation: x[n, c, ...] -> y[n, c, ...].

    Either the size or a factor is given, for all spatial axes or for each; size' = ⌊size · factor⌋.  Without
    `align_corners` the corners of the corner pixels coincide, with it their centres do.
    """

    signature = "x[n, c, *s] -> y[n, c, *t]"
    dtypes = FLOATS
    onnx_dtypes = ONNX_SINGLE
    example = 'x -> upsample(scale_factor = 2, mode = "bilinear")'

    size: int | tuple[int, ...] | None = attribute(None, doc="the size of the result")
    scale_factor: int | float | tuple[int | float, ...] | None = attribute(
        None, doc="how many times larger the result is"
    )
    mode: Literal["nearest", "linear", "bilinear", "trilinear", "bicubic"] = attribute(
        "nearest", doc="the interpolation"
    )
    align_corners: bool = attribute(False, doc="let the centres of the corner pixels coincide")

    def check(self, types: Sequence[TensorType]) -> None:
        rank = types[0].rank
        if (self.size is None) == (self.scale_factor is None):
            raise OperatorError("bad-attribute", "`upsample` needs either `size` or `scale_factor`")
        if rank not in _MODES[self.mode][1]:
            fitting = next((name for name in ("linear", "bilinear", "trilinear") if rank in _MODES[name][1]), None)
            raise OperatorError(
                "bad-attribute",
                f'mode "{self.mode}" of `upsample` is for {" or ".join(map(str, _MODES[self.mode][1]))} axes,'
                f" and receives {types[0]}",
                attribute="mode",
                help=f'write `mode = "{fitting}"`' if fitting else None,
            )
        if self.align_corners and self.mode == "nearest":
            raise OperatorError("bad-attribute", 'mode "nearest" has no corners to align', attribute="align_corners")
        given, name = (self.size, "size") if self.size is not None else (self.scale_factor, "scale_factor")
        values = given if isinstance(given, tuple) else (given,) * (rank - 2)
        if len(values) != rank - 2 or any(value is None or not 0 < value < float("inf") for value in values):
            raise OperatorError(
                "bad-attribute",
                f"`{name}` must be one positive number, or one for each of the {rank - 2} spatial axes",
                attribute=name,
            )

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        if len(types) != 1 or types[0].rank < 3:
            return super().signature_for(types)
        axes = plain_axes(types[0].rank)
        sized = [Axis(((Apply("resized", Index(f"d{number}")),),)) for number in range(2, len(axes))]
        return Signature((Pattern("x", tuple(axes)),), (Pattern("y", (*axes[:2], *sized)),))

    def resized(self, extent: Extent, position: int) -> Extent:
        """The size of a spatial axis of the result."""
        if self.size is not None:
            return self.size[position] if isinstance(self.size, tuple) else self.size
        factor = self.scale_factor[position] if isinstance(self.scale_factor, tuple) else self.scale_factor
        assert factor is not None, "checked before"
        if isinstance(extent, int):
            return int(extent * factor)
        exact = Fraction(factor)
        return floor_divide(extent * exact.numerator, exact.denominator)

    def torch(self, spell: TorchSpelling) -> str:
        named: dict[str, Any] = {"size": self.size, "scale_factor": self.scale_factor}
        named = {name: value for name, value in named.items() if value is not None}
        if self.mode != "nearest":
            named["mode"] = self.mode
        if self.align_corners:
            named["align_corners"] = True
        return call("F.interpolate", *spell.operands, **named)

    def onnx(self, spell: OnnxSpelling) -> str:
        if self.size is not None:
            target = ["", spell.shape(spell.results[0].shape)]
        else:
            spatial = spell.types[0].rank - 2
            factors = self.scale_factor if isinstance(self.scale_factor, tuple) else (self.scale_factor,) * spatial
            target = [spell.constant([1.0, 1.0, *(float(factor or 1) for factor in factors)])]
        kind = _MODES[self.mode][0]
        corners = "align_corners" if self.align_corners else "half_pixel"
        return spell.add(
            "Resize",
            spell.operands[0],
            "",
            *target,
            mode=kind,
            coordinate_transformation_mode="asymmetric" if kind == "nearest" else corners,
            nearest_mode="floor" if kind == "nearest" else None,
            # Keys, "Cubic convolution interpolation", leaves the coefficient open; PyTorch takes -0.75.
            cubic_coeff_a=-0.75 if kind == "cubic" else None,
        )


@operator
class PixelShuffle(Layout):
    """Channels become pixels: y[n, c, h·r + i, w·r + j] = x[n, (c·r + i)·r + j, h, w]."""

    example = "x -> pixel_shuffle(2)"

    upscale_factor: int = attribute(doc="how many times higher and wider the result is")

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
class PixelUnshuffle(Layout):
    """Pixels become channels; the inverse of `pixel_shuffle`."""

    example = "x -> pixel_unshuffle(2)"

    downscale_factor: int = attribute(doc="how many times lower and narrower the result is")

    def pattern_for(self, types: Sequence[TensorType]) -> str:
        return "*b c (h i) (w j) -> *b (c i j) h w"

    def pattern_sizes(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        return {"i": self.downscale_factor, "j": self.downscale_factor}

    def check(self, types: Sequence[TensorType]) -> None:
        check_positive(self, "downscale_factor")

    def torch(self, spell: TorchSpelling) -> str:
        return call("F.pixel_unshuffle", *spell.operands, self.downscale_factor)


@operator
class ChannelShuffle(Layout):
    """The channels of all groups in turn: [n, (g c), ...] becomes [n, (c g), ...] (ShuffleNet, Zhang et al. 2018)."""

    example = "x -> channel_shuffle(4)"

    groups: int = attribute(doc="how many groups the channels are in")

    def pattern_for(self, types: Sequence[TensorType]) -> str:
        return "n (g c) *s -> n (c g) *s"

    def pattern_sizes(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        return {"g": self.groups}

    def check(self, types: Sequence[TensorType]) -> None:
        check_positive(self, "groups")
        if types[0].rank < 3:
            raise OperatorError(
                "rank-mismatch", f"`channel_shuffle` needs at least 3 axes, and receives {types[0]}", operand=0
            )

    def torch(self, spell: TorchSpelling) -> str:
        return call("F.channel_shuffle", *spell.operands, self.groups)
