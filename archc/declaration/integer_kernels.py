"""Integer kernels of layers: the code that `linear` and the convolutions share."""

from __future__ import annotations

from collections.abc import Callable

from archc.declaration.spelling import OnnxSpelling, QuantizedValue, TorchModule, TorchSpelling
from archc.types.storage import Dense, Int8
from archc.types.tensor_type import DType


def quantized_operand(spell: OnnxSpelling) -> QuantizedValue | None:
    """Quantized form of the first operand, if both the operand and the weight are integers; else None."""
    return spell.quantized(0) if integer_weight(spell) is not None else None


def onnx_product(spell: OnnxSpelling, operand: QuantizedValue, product: Callable[[str], str], spatial: int = 0) -> str:
    """Add the ONNX nodes for the product of a quantized operand and the weight, plus the bias.

    A bias that int32 cannot represent is added in floats, after the product.  ONNX Runtime would fuse the product and
    this addition, and round the bias to int32.  A `Max` of one operand between them prevents the fusion; see
    `archc.codegen.onnx.barriers`.

    Args:
        product: adds the node of the product.  Its argument is the name of the bias; empty without a bias.
        spatial: number of axes after the channel axis.
    """
    bias = spell.integer_bias(operand)
    if bias is not None:
        return product(bias)
    sums, added = spell.add("Max", product("")), spell.weights["bias"]
    if spatial:
        added = spell.add("Unsqueeze", added, spell.constant(list(range(1, spatial + 1))))
    return spell.add("Add", sums, added)


def integer_module(function: str, module: TorchModule, spell: TorchSpelling) -> TorchModule | None:
    """The module with integer kernels in place of a floating-point module; None if the kernels do not fit.

    The module takes the arguments of the floating-point module, and `per_channel`, which is True if each output channel
    has its own scale.
    """
    storage = integer_weight(spell)
    others = [stored for name, stored in spell.storages.items() if name != "weight"]
    if storage is None or any(stored != Dense() for stored in others):
        return None
    return TorchModule(function, module.positional, {**module.named, "per_channel": (storage.axis == 0, True)})


def integer_weight(spell: OnnxSpelling | TorchSpelling) -> Int8 | None:
    """Storage of the weight, if integer kernels support it; else None.

    The kernels need a single scale, or one scale for each output channel.  Scales along another axis would have to be
    applied before the summation.
    """
    storage = spell.storages["weight"]
    if not isinstance(storage, Int8) or storage.axis not in (None, 0) or spell.results[0].dtype is not DType.f32:
        return None
    return storage
