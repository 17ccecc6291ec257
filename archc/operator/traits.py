"""What an operator tells the passes about itself, so that no pass holds a table of operators.

Everything here has a default that promises nothing; an operator overrides what holds for it, in its own class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from archc.types.attributes import attributes
from archc.types.tensor_type import TensorType

if TYPE_CHECKING:
    import numpy as np

Number = bool | int | float
Uniform = Sequence[Number | None]
"""For each operand the one number that all its elements are, or None where they differ or nobody knows."""


class Traits:
    """The part of an operator that passes ask.

    A rewritten operator must compute the same to the bit, with the sign of a zero as the only liberty
    (x + 0 is x), both in training and in inference.
    """

    affine_in_weight: ClassVar[bool] = False
    """Whether it is linear in its parameter `weight`, and adds a `bias` along the channels of the result."""
    pointwise: ClassVar[bool] = False
    """Whether a result element depends on the operand elements at its own place alone."""
    idempotent: ClassVar[bool] = False
    """Whether doing it to its own result changes nothing more."""
    pure: bool = True
    """Whether doing it once is as good as twice: false for what draws random numbers or keeps statistics."""
    inference_identity: ClassVar[bool] = False
    """Whether it passes its operand through when the model does not train, as dropout does."""
    integer_schemes: ClassVar[tuple[str, ...]] = ()
    """The schemes of `quant` that make it no slower: `static`, `dynamic`, `weight`."""
    integer_result: ClassVar[bool] = False
    """Whether its integer kernels give integers only, so that what it makes must be quantized too."""
    clips: ClassVar[bool] = False
    """Whether it brings elements into a range and does nothing else, so that rounding them can do the same."""
    is_relu: ClassVar[bool] = False
    """Whether it is max(0, x), which kernels do to their results for nothing."""
    commutes_with_rounding: ClassVar[bool] = False
    """Whether rounding all elements to one grid before it or after it is the same: it picks and moves them."""
    decodes: ClassVar[bool] = False
    """Whether its operands say all that its result says, in fewer bytes: they are what is sent to another device."""
    factored_storage: ClassVar[bool] = False
    """Flag of operators whose weights may be stored as two factors; the layer is not split."""
    holds_weight: ClassVar[bool] = False
    """Whether its result is its one weight, and it has no operands."""
    scan_end: ClassVar[Literal["", "enter", "exit"]] = ""
    """Whether it begins or ends the steps of a scan; see `archc.ir.scans`."""
    scan_parts: int = 0
    """How many sequences a scan that it begins has, or how many states one that it ends."""
    channel_axis: ClassVar[int | None] = 0
    """The axis of its weights that has a scale for each slice in int8; None if any axis may have them."""
    blocks: ClassVar[tuple[str, ...]] = ()
    """The indices that shrink by whole blocks before other factors of their product do: the heads of attention."""
    rigid: ClassVar[tuple[str, ...]] = ()
    """The indices whose elements all have a say in each result, and not in a sum of products: none of them can go.

    A spread's name stands for all its axes.  An index that no result has, and one operand alone, need not be named.
    """

    def rigid_for(self, types: Sequence[TensorType]) -> tuple[str, ...]:
        """The rigid indices for operands of these types; override where the attributes tell (`softmax`)."""
        return self.rigid

    def ignored(self, types: Sequence[TensorType]) -> tuple[str, ...]:
        """The indices whose elements no result depends on: what a slice cuts off."""
        return ()

    def flexible(self, types: Sequence[TensorType]) -> tuple[str, ...]:
        """Of the indices whose extents the attributes give, those that `with_extents` can give another one."""
        infos = attributes(type(self))
        return tuple(info.index for info in infos if info.index is not None and getattr(self, info.name) is not None)

    def channel_map(self, weights: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        """Scale and shift, where in inference all it does is y[n, c, …] = scale[c] · x[n, c, …] + shift[c].

        `weights` are its parameters by name, in float64, as the results are.
        """
        return None

    def uniform(self) -> Number | None:
        """The number that every element of the result is, where the attributes alone say so (`full`)."""
        return None

    def enters_stage(self) -> int | None:
        """The stage of a pipeline that its result is in, whatever its operand is in; None for what stays with it."""
        return None

    def names_device(self) -> str | None:
        """The device that it names for the stage that it enters."""
        return None
