"""When a layer may compute with integers: what `linear` and the convolutions share of it."""

from __future__ import annotations

from archc.ir.storage import Int8
from archc.ir.types import DType
from archc.ops.spelling import OnnxSpelling, Quantized


def quantized_operand(spell: OnnxSpelling) -> Quantized | None:
    """The first operand's integers, where the weight is stored as integers too; else None.

    The weight must have one scale, or one for each output channel: a scale inside the sum would have to be applied
    before adding up.
    """
    storage = spell.storages["weight"]
    if not isinstance(storage, Int8) or storage.axis not in (None, 0) or spell.results[0].dtype is not DType.f32:
        return None
    return spell.quantized(0)
