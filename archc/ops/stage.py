"""Where a model is cut into the stages of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence

from archc.operator.base import Operator, OperatorError, operator
from archc.operator.dtypes import ONNX_ALL
from archc.operator.spelling import OnnxSpelling, TorchSpelling
from archc.types.attributes import attribute
from archc.types.tensor_type import TensorType


@operator
class ToStage(Operator):
    """The operand itself, for a later stage of a pipeline: y = x.

    What uses the result is in that stage, and so is what uses theirs, up to the next `to_stage`.  Inputs of the model,
    and what has no operands, are in stage 0.  `partition` writes these; so can a person.
    """

    signature = "x[*s] -> y[*s]"
    pointwise = True
    family = "placement"
    onnx_dtypes = ONNX_ALL
    example = "x -> conv2: conv2d(64, 3) -> relu -> to_stage(1) -> fc1: linear(128)"

    stage: int = attribute(doc="the number of the stage, from 0")
    device: str | None = attribute(
        None, keyword=True, doc="the device that the stage is meant for, as PyTorch calls it, `cuda:1`"
    )

    def check(self, types: Sequence[TensorType]) -> None:
        if self.stage < 0:
            raise OperatorError("bad-attribute", f"the stages of `to_stage` count from 0, and this is {self.stage}")

    def enters_stage(self) -> int:
        return self.stage

    def names_device(self) -> str | None:
        return self.device

    def torch(self, spell: TorchSpelling) -> str:
        return spell.operands[0]

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.operands[0]
