"""What plain and transposed convolutions share: channels in groups, a kernel, and how PyTorch takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from archc.operator.base import Operator, operator
from archc.operator.checks import bad_attribute, check_channels
from archc.operator.dtypes import FLOATS, ONNX_SINGLE
from archc.operator.spelling import TorchModule, TorchSpelling, call
from archc.ops.spatial import Sizes, check_sizes, per_axis
from archc.types.extent_solver import Extent
from archc.types.tensor_type import TensorType

_LONGEST_KERNEL = 16
"""The longest side of a kernel for which channels-last layout is used: that of vision transformers' patches."""
_REGISTER = 16
"""Number of 32-bit floats in the widest vector registers (AVX-512)."""


@operator
class Convolving(Operator, abstract=True):
    """The base of both kinds, of all ranks; a kind declares the attributes, in PyTorch's own order."""

    dtypes = FLOATS
    onnx_dtypes = ONNX_SINGLE
    affine_in_weight = True
    integer_schemes: ClassVar[tuple[str, ...]] = ("weight",)
    spatial: ClassVar[tuple[str, ...]] = ()
    """The indices of the spatial axes; each has a `k` before it for the kernel's."""
    module: ClassVar[str] = ""

    if TYPE_CHECKING:
        out_channels: int
        kernel_size: Sizes
        stride: Sizes
        dilation: Sizes
        groups: int
        bias: bool
        in_channels: int | None

    def check(self, types: Sequence[TensorType]) -> None:
        check_sizes(self, len(self.spatial), 1, "kernel_size", "stride", "dilation")
        for name in ("groups", "out_channels"):
            if getattr(self, name) < 1:
                raise bad_attribute(self, name, "positive")
        if self.out_channels % self.groups:
            raise bad_attribute(self, "out_channels", f"divisible by `groups`, which is {self.groups}")
        check_channels(self, "in_channels", types[0])

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        kernel = {f"k{index}": size for index, size in zip(self.spatial, self.kernel)}
        return {"g": self.groups, "o": self.out_channels // self.groups, **kernel}

    def flexible(self, types: Sequence[TensorType]) -> tuple[str, ...]:
        return "g", "o"

    def with_extents(self, types: Sequence[TensorType], extents: Mapping[str, Any]) -> Self:
        groups = extents["g"]
        given = {} if self.in_channels is None else {"in_channels": groups * extents["i"]}
        return replace(self, groups=groups, out_channels=groups * extents["o"], **given)

    @property
    def kernel(self) -> tuple[int, ...]:
        """The kernel's size on each spatial axis."""
        return per_axis(self.kernel_size, len(self.spatial))

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride on each spatial axis."""
        return per_axis(self.stride, len(self.spatial))

    @property
    def dilations(self) -> tuple[int, ...]:
        """The dilation on each spatial axis."""
        return per_axis(self.dilation, len(self.spatial))

    def safe_channels_last(self, types: Sequence[TensorType]) -> bool:
        """Return whether oneDNN's channels-last kernels are known to be right for operands of these types.

        For tall kernels over images one pixel wide, the AVX-512 kernels read uninitialized memory: seen from 24 rows
        on, with channels that 16 does not divide.  In training, strided kernels of one pixel write out of bounds if
        there are fewer channels than floats in a vector register, 8 or 16
        (github.com/uxlfoundation/oneDNN/issues/6035).  The conditions here exclude more cases than these.
        """
        if max(self.kernel) > _LONGEST_KERNEL:
            return False
        if max(self.kernel) > 1:
            return 1 not in types[0].shape[2:]
        sizes = self.infer(types).solution.extents
        narrow = any(isinstance(size, int) and size < _REGISTER for size in (sizes["i"], sizes["o"]))
        return max(self.strides) == 1 or not narrow

    def torch(self, spell: TorchSpelling) -> str:
        named = {name: value for name, (value, default) in self._options().items() if value != default}
        return call(f"F.{self.name}", *spell.operands, *spell.weights.values(), **named)

    def torch_module(self, spell: TorchSpelling) -> TorchModule:
        channels = spell.sizes["g"] * spell.sizes["i"]
        positional = {"in_channels": channels, "out_channels": self.out_channels, "kernel_size": self.kernel_size}
        return TorchModule(self.module, positional, {**self._options(), "bias": (self.bias, True)})

    def _options(self) -> dict[str, tuple[Any, Any]]:
        """The arguments that PyTorch's function and module share, with their defaults, in the function's order."""
        raise AssertionError(f"{type(self).__name__} gives no options")
