"""Traits of operators: declarations that passes read, so that no pass has a table of operators.

The default of each trait is the conservative one.  An operator overrides it in its own class.
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

    A rewritten operator has bit-equal results in training and in inference.  The sign of a zero may change: x + 0 is x.
    """

    affine_in_weight: ClassVar[bool] = False
    """It is linear in its parameter `weight`, and adds a `bias` along the channels of the result."""
    pointwise: ClassVar[bool] = False
    """Each element of the result depends only on the operand elements at the same position."""
    idempotent: ClassVar[bool] = False
    """A second application does not change the result."""
    pure: bool = True
    """Equal operands give equal results; False with random numbers or running statistics."""
    inference_identity: ClassVar[bool] = False
    """In inference it returns its operand, like dropout."""
    integer_schemes: ClassVar[tuple[str, ...]] = ()
    """The schemes of `quant` with which it is not slower: `static`, `dynamic`, `weight`."""
    integer_result: ClassVar[bool] = False
    """Its integer kernels return integers only, so that its result must be quantized too."""
    clips: ClassVar[bool] = False
    """It only clamps elements to a range, which a quantizer can do as well."""
    is_relu: ClassVar[bool] = False
    """It is max(0, x), which kernels fuse at no cost."""
    commutes_with_rounding: ClassVar[bool] = False
    """It only selects and moves elements, so quantizing before and after it is the same."""
    decodes: ClassVar[bool] = False
    """Its operands hold the content of its result in fewer bytes; a pipeline sends the operands."""
    factored_storage: ClassVar[bool] = False
    """Its weights may be stored as two factors without splitting the layer."""
    holds_weight: ClassVar[bool] = False
    """Its result is its one weight, and it has no operands."""
    scan_end: ClassVar[Literal["", "enter", "exit"]] = ""
    """The end of a scan that it marks, if any; see `archc.ir.scans`."""
    scan_parts: int = 0
    """Number of sequences of a scan that it enters, or of states of a scan that it exits."""
    channel_axis: ClassVar[int | None] = 0
    """The axis of its weights along which int8 has a scale for each slice; None for any axis."""
    blocks: ClassVar[tuple[str, ...]] = ()
    """Indices that shrink in whole blocks before the other factors of their product: attention heads."""
    rigid: ClassVar[tuple[str, ...]] = ()
    """Indices whose elements all affect every result, other than by a sum of products: none can be removed.

    The name of a spread covers all its axes.  Indices of a single operand that no result has need no entry.
    """

    def rigid_for(self, types: Sequence[TensorType]) -> tuple[str, ...]:
        """Rigid indices for operands of these types; override it if attributes decide (`softmax`)."""
        return self.rigid

    def ignored(self, types: Sequence[TensorType]) -> tuple[str, ...]:
        """Indices whose elements no result depends on: the part that a slice removes."""
        return ()

    def flexible(self, types: Sequence[TensorType]) -> tuple[str, ...]:
        """Indices whose extents attributes give, and that `with_extents` can change."""
        infos = attributes(type(self))
        return tuple(info.index for info in infos if info.index is not None and getattr(self, info.name) is not None)

    def channel_map(self, weights: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        """Scale and shift, if in inference y[n, c, …] = scale[c] · x[n, c, …] + shift[c]; else None.

        Args:
            weights: its parameters by name, in float64, as are scale and shift.
        """
        return None

    def uniform(self) -> Number | None:
        """The number that all elements of the result equal, if attributes alone determine it (`full`)."""
        return None

    def enters_stage(self) -> int | None:
        """The pipeline stage of its result; None if it is the stage of its operand."""
        return None

    def names_device(self) -> str | None:
        """The device that it assigns to the stage that it enters, if any."""
        return None
