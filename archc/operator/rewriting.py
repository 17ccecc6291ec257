"""What an operator tells the passes about itself, so that no pass holds a table of operators.

Everything here has a default that promises nothing; an operator overrides what holds for it, in its own class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from archc.types.attributes import attributes
from archc.types.tensor_type import TensorType

if TYPE_CHECKING:
    import numpy as np

    from archc.operator.base import Operator

Number = bool | int | float
Uniform = Sequence[Number | None]
"""For each operand the one number that all its elements are, or None where they differ or nobody knows."""


class Rewriting:
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
    repeatable: bool = True
    """Whether doing it once is as good as twice: false for what draws random numbers or keeps statistics."""
    inference_identity: ClassVar[bool] = False
    """Whether it passes its operand through when the model does not train, as dropout does."""
    integer_schemes: ClassVar[tuple[str, ...]] = ()
    """The schemes of `quant` that make it no slower: `static`, `dynamic`, `weight`."""
    integer_result: ClassVar[bool] = False
    """Whether its integer kernels give integers only, so that what it makes must be quantized too."""
    clips: ClassVar[bool] = False
    """Whether it brings elements into a range and does nothing else, so that rounding them can do the same."""
    rectifies: ClassVar[bool] = False
    """Whether it is max(0, x), which kernels do to their results for nothing."""
    keeps_steps: ClassVar[bool] = False
    """Whether rounding all elements to one grid before it or after it is the same: it picks and moves them."""
    unpacks: ClassVar[bool] = False
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

    def with_extents(self, types: Sequence[TensorType], extents: Mapping[str, Any]) -> Operator:
        """This operator where its indices have other extents than for operands of these types.

        By default the attributes that declare an index take its extent.
        """
        infos = [info for info in attributes(type(self)) if getattr(self, info.name) is not None]
        changes = {info.name: extents[info.index] for info in infos if info.index is not None and info.index in extents}
        return cast("Operator", replace(cast("Any", self), **changes))

    def channel_map(self, weights: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        """Scale and shift, where in inference all it does is y[n, c, …] = scale[c] · x[n, c, …] + shift[c].

        `weights` are its parameters by name, in float64, as the results are.
        """
        return None

    def uniform(self) -> Number | None:
        """The number that every element of the result is, where the attributes alone say so (`full`)."""
        return None

    def simplified(self, types: Sequence[TensorType], uniform: Uniform) -> Operator | int | None:
        """A simpler way to the same result: another operator on the same operands, or the number of an operand.

        None where there is none.  A weight of the operator must not be lost over it.
        """
        return None

    def after(self, inner: Operator, types: Sequence[TensorType]) -> Operator | int | None:
        """What this does to the result of `inner`, at once: an operator on the operands of `inner`, or one of them.

        `types` are those of `inner`'s operands; this operator takes its result and nothing else, and neither
        has weights.  None where it takes both.  By default what is `idempotent` needs doing once.
        """
        return inner if self.idempotent and inner == self else None

    def enters_stage(self) -> int | None:
        """The stage of a pipeline that its result is in, whatever its operand is in; None for what stays with it."""
        return None

    def names_device(self) -> str | None:
        """The device that it names for the stage that it enters."""
        return None

    def received(self, types: Sequence[TensorType]) -> Operator | None:
        """An operator of the same weights that makes all its results from the first one; None where there is none.

        A later stage that has its weights too, which are not trained, need not be sent the other results.
        """
        return None

    def factors(self, rank: int) -> tuple[Operator, Operator] | None:
        """Two operators, done one after the other, that compute any map of this kind whose weight has that rank.

        The weight W is taken as a matrix: its first axis against all others.  With W = B A the first operator's
        weight is A and the second's is B, in whatever shapes they have; a bias belongs to the second.
        """
        return None
