"""Dropout: noise in training, and the identity in inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from archc.declaration.base import Operator, operator
from archc.declaration.checks import check_probability
from archc.declaration.dtypes import FLOATS, ONNX_ALL
from archc.declaration.spelling import OnnxSpelling, TorchModule, TorchSpelling
from archc.declaration.traits import IMPURE, INFERENCE_IDENTITY, Homogeneous, Uniform
from archc.types.attributes import attribute
from archc.types.tensor_type import TensorType


@operator
class BaseDropout(Operator, abstract=True):
    """Base of dropout operators: the identity in inference, a module in training."""

    module: ClassVar[str] = ""
    """The `torch.nn` module."""
    dtypes = FLOATS
    onnx_dtypes = ONNX_ALL
    traits = (IMPURE, INFERENCE_IDENTITY, Homogeneous())

    p: float = attribute(0.5, doc="probability that an element (or channel) becomes 0")

    def check(self, types: Sequence[TensorType]) -> None:
        check_probability(self, "p")

    def simplified(self, types: Sequence[TensorType], uniform: Uniform) -> int | None:
        return 0 if self.p == 0 else None

    def torch(self, spell: TorchSpelling) -> str:
        return spell.operands[0]

    def torch_module(self, spell: TorchSpelling) -> TorchModule:
        return TorchModule(self.module, {"p": self.p})

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.operands[0]


@operator
class Dropout(BaseDropout):
    """In training, set each element to 0 with probability p, and scale the others by 1 / (1 - p).

    (Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting".)
    """

    signature = "x[*s] -> y[*s]"
    example = "x -> dropout(0.1)"
    module = "nn.Dropout"


@operator
class Dropout1d(BaseDropout):
    """`dropout` of whole channels of a sequence: x[n, c, :] becomes 0 with probability p.

    (Tompson et al. 2015, "Efficient Object Localization Using Convolutional Networks", section 3.2.)
    """

    signature = "x[n, c, l] -> y[n, c, l]"
    example = "signal -> dropout1d(0.1)"
    module = "nn.Dropout1d"


@operator
class Dropout2d(BaseDropout):
    """`dropout` of whole channels of an image: x[n, c, :, :] becomes 0 with probability p.

    See `dropout1d`.
    """

    signature = "x[n, c, h, w] -> y[n, c, h, w]"
    example = "features -> dropout2d(0.1)"
    module = "nn.Dropout2d"


@operator
class Dropout3d(BaseDropout):
    """`dropout` of whole channels of a volume: x[n, c, :, :, :] becomes 0 with probability p.

    See `dropout1d`.
    """

    signature = "x[n, c, d, h, w] -> y[n, c, d, h, w]"
    example = "video -> dropout3d(0.1)"
    module = "nn.Dropout3d"


@operator
class AlphaDropout(BaseDropout):
    """`dropout` that keeps mean and variance after `selu`.

    Dropped elements become the limit of `selu` for x → -∞.  An affine map of all elements then restores mean and
    variance.

    (Klambauer et al. 2017, "Self-Normalizing Neural Networks".)
    """

    signature = "x[*s] -> y[*s]"
    example = "x -> selu -> alpha_dropout(0.1)"
    module = "nn.AlphaDropout"
