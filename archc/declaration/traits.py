"""Traits of operators: declarations that passes read, so that no pass has a table of operators.

Each trait has a default, which an operator overrides in its class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from archc.types.attributes import attributes
from archc.types.tensor_type import TensorType

if TYPE_CHECKING:
    import numpy as np

Number = bool | int | float
"""A Python number as the value of an element."""
Uniform = Sequence[Number | None]
"""For each operand, the number that all its elements equal; None if they differ or are unknown."""


class Traits:
    """The part of an operator that passes read.

    Rewrites that follow from traits keep results bit-equal in training and in inference.  Only the sign of a zero may
    change, since x + 0 is replaced by x.
    """

    affine_in_weight: ClassVar[bool] = False
    """True if the result is linear in the parameter `weight`, plus a `bias` for each result channel."""
    pointwise: ClassVar[bool] = False
    """True if each element of the result depends only on the operand elements at the same position."""
    idempotent: ClassVar[bool] = False
    """True if a second application does not change the result."""
    pure: bool = True
    """True if equal operands give equal results; False with random numbers or running statistics."""
    inference_identity: ClassVar[bool] = False
    """True if the result in inference is the operand, as for dropout."""
    integer_schemes: ClassVar[tuple[str, ...]] = ()
    """Schemes of the pass `quant` (`static`, `dynamic`, `weight`) that do not make the operator slower."""
    integer_result: ClassVar[bool] = False
    """True if the integer kernels return integers, so that the result is quantized like the operand."""
    clips: ClassVar[bool] = False
    """True if the operator only clamps elements to a range, which quantization of the result can do, too."""
    is_relu: ClassVar[bool] = False
    """True if the result is max(0, x), which kernels of other operators apply to their results at no cost."""
    commutes_with_rounding: ClassVar[bool] = False
    """True if the operator only selects and moves elements, so that it commutes with quantization."""
    decodes: ClassVar[bool] = False
    """True if the operands have fewer bytes than the result (`dequantize`).

    Between the stages of a pipeline, the operands are then transferred instead of the result.
    """
    factored_storage: ClassVar[bool] = False
    """True if a weight may be stored as two low-rank factors while the layer stays one operator."""
    holds_weight: ClassVar[bool] = False
    """True if the operator has no operands, and returns its only weight."""
    scan_end: ClassVar[Literal["", "enter", "exit"]] = ""
    """`enter` or `exit` if the operator marks the start or the end of a scan; see `archc.ir.scans`."""
    scan_parts: int = 0
    """For `enter`, the number of sequences of the scan; for `exit`, the number of its states."""
    channel_axis: ClassVar[int | None] = 0
    """Axis along which an int8 weight may have a scale for each slice; None if any axis is allowed."""
    blocks: ClassVar[tuple[str, ...]] = ()
    """Indices that `prune` shrinks instead of other factors of an axis: the heads `h` of an axis `h*e`."""
    rigid: ClassVar[tuple[str, ...]] = ()
    """Indices that keep all their elements, because each element of a result depends on all of them.

    An operator that subtracts the mean of the last axis, y = x - mean(x), declares that its index `d` is rigid:

        signature = "x[*b, d] -> y[*b, d]"
        rigid = ("d",)

    If the declaration is missing, `prune` removes elements of `x` along `d`, and the mean of the remaining elements is
    another number.  `tests/analysis/test_shrinkable_axes.py` reports a missing declaration.

    The name of a spread (`s` of `*s`) covers all its axes, and `s.0` is only its first axis.  If an attribute selects
    the axis, override `rigid_for`.  The summation index of a matrix product is not rigid, since `prune` may remove
    terms of the sum.  An index that is in one operand and in no result needs no entry: `prune` shrinks it only if
    `ignored` returns it.
    """

    def rigid_for(self, types: Sequence[TensorType]) -> tuple[str, ...]:
        """Rigid indices for operands of these types; override it if they depend on attributes (`softmax`).

        For an attribute `dim` that is declared with `axis="x"`, and the operand `x[*s]`, the index is

            (f"s.{self.axis_number('dim', types)}",)
        """
        return self.rigid

    def ignored(self, types: Sequence[TensorType]) -> tuple[str, ...]:
        """Indices of elements that affect no result, such as the part that a slice removes."""
        return ()

    def flexible(self, types: Sequence[TensorType]) -> tuple[str, ...]:
        """Indices with an extent that attributes give and `with_extents` can change."""
        infos = attributes(type(self))
        return tuple(info.index for info in infos if info.index is not None and getattr(self, info.name) is not None)

    def channel_map(self, weights: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        """Scale and shift, if in inference y[n, c, …] = scale[c] · x[n, c, …] + shift[c]; else None.

        Args:
            weights: the parameters of the operator by name, in float64; scale and shift are in float64 too.
        """
        return None

    def uniform(self) -> Number | None:
        """The number that all elements of the result equal, if attributes alone determine it (`full`)."""
        return None

    def enters_stage(self) -> int | None:
        """The pipeline stage of the result; None if the result is in the stage of the operand."""
        return None

    def names_device(self) -> str | None:
        """The device that the operator assigns to the stage of its result; None if it assigns no device."""
        return None
