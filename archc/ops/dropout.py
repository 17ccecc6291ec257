"""Dropout: noise while a network trains, nothing at all when it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from archc.operator.base import Operator, operator
from archc.operator.checks import check_probability
from archc.operator.dtypes import FLOATS, ONNX_ALL
from archc.operator.spelling import OnnxSpelling, TorchModule, TorchSpelling
from archc.operator.traits import Uniform
from archc.types.attributes import attribute
from archc.types.tensor_type import TensorType


@operator
class BaseDropout(Operator, abstract=True):
    """What all kinds of dropout share: the identity for inference, a module for training."""

    module: ClassVar[str] = ""
    dtypes = FLOATS
    onnx_dtypes = ONNX_ALL
    pure = False
    inference_identity = True

    p: float = attribute(0.5, doc="how likely an element (or channel) is dropped, from 0 to 1")

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
    """In training each element becomes 0 with probability p, and the others are scaled by 1 / (1 - p).

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
    """`dropout` of whole channels of an image: x[n, c, :, :] becomes 0 with probability p; see `dropout1d`."""

    signature = "x[n, c, h, w] -> y[n, c, h, w]"
    example = "features -> dropout2d(0.1)"
    module = "nn.Dropout2d"


@operator
class Dropout3d(BaseDropout):
    """`dropout` of whole channels of a volume: x[n, c, :, :, :] becomes 0 with probability p; see `dropout1d`."""

    signature = "x[n, c, d, h, w] -> y[n, c, d, h, w]"
    example = "video -> dropout3d(0.1)"
    module = "nn.Dropout3d"


@operator
class AlphaDropout(BaseDropout):
    """`dropout` that keeps mean and variance after `selu`: dropped elements take its negative saturation.

    (Klambauer et al. 2017, "Self-Normalizing Neural Networks".)
    """

    signature = "x[*s] -> y[*s]"
    example = "x -> selu -> alpha_dropout(0.1)"
    module = "nn.AlphaDropout"
