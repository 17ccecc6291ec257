"""When a layer may compute with integers: what `linear` and the convolutions share of it."""

from __future__ import annotations

from collections.abc import Callable

from archc.operator.spelling import OnnxSpelling, Quantized, TorchModule, TorchSpelling
from archc.types.storage import Dense, Int8
from archc.types.tensor_type import DType


def quantized_operand(spell: OnnxSpelling) -> Quantized | None:
    """The first operand's integers, where the weight is stored as integers too; else None."""
    return spell.quantized(0) if integer_weight(spell) is not None else None


def onnx_product(spell: OnnxSpelling, operand: Quantized, product: Callable[[str], str], spatial: int = 0) -> str:
    """Add the product of a quantized operand and the weight, with the bias.

    A bias that int32 cannot hold is added in floats.  A copy of the product before it keeps ONNX Runtime from fusing
    the bias into the product, where it would be rounded to int32; see `archc.codegen.onnx.barriers`.

    Args:
        product: adds the node, given the name of the bias, empty for none.
        spatial: the number of axes after the one of the channels.
    """
    bias = spell.integer_bias(operand)
    if bias is not None:
        return product(bias)
    sums, added = spell.add("Max", product("")), spell.weights["bias"]
    if spatial:
        added = spell.add("Unsqueeze", added, spell.constant(list(range(1, spatial + 1))))
    return spell.add("Add", sums, added)


def integer_module(function: str, module: TorchModule, spell: TorchSpelling) -> TorchModule | None:
    """The module that computes on integers, from that of floating-point numbers; None where its kernels do not fit.

    It takes the same arguments, and whether there is a scale for each output channel.
    """
    storage = integer_weight(spell)
    others = [stored for name, stored in spell.storages.items() if name != "weight"]
    if storage is None or any(stored != Dense() for stored in others):
        return None
    return TorchModule(function, module.positional, {**module.named, "per_channel": (storage.axis == 0, True)})


def integer_weight(spell: OnnxSpelling | TorchSpelling) -> Int8 | None:
    """How the weight is stored, if that is as integers that kernels take; else None.

    It must have one scale, or one for each output channel: a scale inside the sum would have to be applied before
    adding up.
    """
    storage = spell.storages["weight"]
    if not isinstance(storage, Int8) or storage.axis not in (None, 0) or spell.results[0].dtype is not DType.f32:
        return None
    return storage
