"""Boundaries between the stages of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence

from archc.declaration.base import Operator, OperatorError, operator
from archc.declaration.dtypes import ONNX_ALL
from archc.declaration.spelling import OnnxSpelling, TorchSpelling
from archc.declaration.traits import LAYOUT_ONLY, POINTWISE, StageEntry
from archc.types.attributes import attribute
from archc.types.tensor_type import TensorType


@operator
class ToStage(Operator):
    """The operand itself, in a later stage of a pipeline: y = x.

    Every operator that depends on the result is in that stage, up to the next `to_stage`.  Inputs of the model and
    operators without operands are in stage 0.  The pass `partition` inserts `to_stage`; users may also write it.
    """

    signature = "x[*s] -> y[*s]"
    traits = (POINTWISE, LAYOUT_ONLY, StageEntry(stage="stage", device="device"))
    family = "placement"
    onnx_dtypes = ONNX_ALL
    example = "x -> conv2: conv2d(64, 3) -> relu -> to_stage(1) -> fc1: linear(128)"

    stage: int = attribute(doc="number of the stage, from 0")
    device: str | None = attribute(None, keyword=True, doc="PyTorch name of the device of the stage: `cuda:1`")

    def check(self, types: Sequence[TensorType]) -> None:
        if self.stage < 0:
            raise OperatorError("bad-attribute", f"`to_stage` expects a stage of at least 0, got {self.stage}")

    def torch(self, spell: TorchSpelling) -> str:
        return spell.operands[0]

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.operands[0]
