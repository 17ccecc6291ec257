"""Traits of operators: declarations that passes read, so that no pass has a table of operators.

The default of each trait is conservative: it is correct for every operator.  An operator overrides it in its class.
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
    """The result is linear in the parameter `weight`, plus a `bias` along the channels of the result."""
    pointwise: ClassVar[bool] = False
    """Each element of the result depends only on the operand elements at the same position."""
    idempotent: ClassVar[bool] = False
    """A second application does not change the result."""
    pure: bool = True
    """Equal operands give equal results; False with random numbers or running statistics."""
    inference_identity: ClassVar[bool] = False
    """In inference the result is the operand, as for dropout."""
    integer_schemes: ClassVar[tuple[str, ...]] = ()
    """The schemes of `quant` that do not make it slower: of `static`, `dynamic`, `weight`."""
    integer_result: ClassVar[bool] = False
    """The integer kernels return integers only, so that the result must be quantized too."""
    clips: ClassVar[bool] = False
    """It only clamps elements to a range; a quantizer can clamp instead."""
    is_relu: ClassVar[bool] = False
    """The result is max(0, x), which kernels fuse at no cost."""
    commutes_with_rounding: ClassVar[bool] = False
    """It only selects and moves elements, so quantization before or after it gives the same result."""
    decodes: ClassVar[bool] = False
    """Its operands encode its result in fewer bytes, so a pipeline sends the operands."""
    factored_storage: ClassVar[bool] = False
    """Its weights may be stored as two factors without splitting the layer."""
    holds_weight: ClassVar[bool] = False
    """It has no operands, and its result is its only weight."""
    scan_end: ClassVar[Literal["", "enter", "exit"]] = ""
    """`enter` or `exit` if the operator marks the start or the end of a scan; see `archc.ir.scans`."""
    scan_parts: int = 0
    """For `enter`, the number of sequences of the scan; for `exit`, the number of its states."""
    channel_axis: ClassVar[int | None] = 0
    """The axis of its weights along which int8 storage has a scale for each slice; None for any axis."""
    blocks: ClassVar[tuple[str, ...]] = ()
    """Indices that `prune` shrinks before the other factors of the same product, such as attention heads."""
    rigid: ClassVar[tuple[str, ...]] = ()
    """Indices of which no element can be removed, since every element affects all results (`softmax`).

    Indices that are only summed over in a product are not rigid.  The name of a spread covers all its axes.  An index
    that only one operand and no result has needs no entry.
    """

    def rigid_for(self, types: Sequence[TensorType]) -> tuple[str, ...]:
        """Rigid indices for operands of these types; override it if they depend on attributes (`softmax`)."""
        return self.rigid

    def ignored(self, types: Sequence[TensorType]) -> tuple[str, ...]:
        """Indices with elements that affect no result, such as the part that a slice removes."""
        return ()

    def flexible(self, types: Sequence[TensorType]) -> tuple[str, ...]:
        """Indices with extents that are given by attributes and that `with_extents` can change."""
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
        """The pipeline stage of its result; None if the result stays in the stage of the operand."""
        return None

    def names_device(self) -> str | None:
        """The device that the operator assigns to the stage of its result, if any."""
        return None
