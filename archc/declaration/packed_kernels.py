"""Product with a weight of int4, by a kernel of ONNX Runtime."""

from __future__ import annotations

from archc.declaration.spelling import OnnxSpelling
from archc.types.storage import Int4

BLOCKS = (16, 32, 64, 128, 256)
"""Group sizes that `MatMulNBits` accepts in ONNX Runtime 1.31."""

IN_FLOATS = 1
"""Accuracy level of `MatMulNBits` that keeps the operand in floats."""


def int4_product(spell: OnnxSpelling) -> str | None:
    """Add the product of the first operand and the transposed weight, plus the bias.

    `MatMulNBits` decodes the weight in each run, and keeps only the integers in memory.  Without this kernel, ONNX
    Runtime decodes the weight when it loads the model: MiniLM loads 7 times as fast with the kernel, in a tenth of the
    memory (`benchmarks.packed_weights`).

    The form of the ONNX standard, a `DequantizeLinear` with blocks before a `MatMul`, becomes the same kernel when ONNX
    Runtime loads the model.  But that kernel also rounds the operand to int8, unless the user sets a session option.
    The kernel also takes 2 bits, but is several times as slow as floats then.

    Returns:
        The name of the result; None if the kernel does not fit the storage of the weight, or if the model may have
        standard operators only.
    """
    storage = spell.storages["weight"]
    if not spell.contributed or not isinstance(storage, Int4) or storage.axis != 0 or spell.types[0].rank < 2:
        return None
    channels, features = spell.sizes["o"], spell.sizes["i"]
    block = storage.group or features
    if block not in BLOCKS:
        return None
    inputs = (spell.operands[0], *spell.blocks("weight", block), "", spell.weights.get("bias", ""))
    sizes = {"K": features, "N": channels, "bits": storage.bits, "block_size": block}
    product: str = spell.add("MatMulNBits", *inputs, domain="com.microsoft", **sizes, accuracy_level=IN_FLOATS)
    return product
