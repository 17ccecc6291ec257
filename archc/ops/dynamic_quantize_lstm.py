"""Weights of `DynamicQuantizeLSTM`, an operator of ONNX Runtime in its own domain `com.microsoft`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archc.declaration.spelling import OnnxSpelling
from archc.types.storage import Int8, Storage
from archc.types.tensor_type import DType


def has_integer_rows(storages: Mapping[str, Storage], names: Sequence[str]) -> bool:
    """Return whether `DynamicQuantizeLSTM` can read stored weights: int8, one scale or one for each row.

    The kernel takes one tensor of scales for both directions, so the weights of both must have the same form.
    """
    forms = {storages[name] for name in names}
    return len(forms) == 1 and forms <= {Int8(0), Int8(None)}


def integer_weights(
    spell: OnnxSpelling, names: Sequence[str], gates: Sequence[int], hidden: int
) -> tuple[str, str, str]:
    """Names of integers [d, i, 4h], scales [d, 4h] or [d], and zero points, for d directions.

    ONNX Runtime runs the added nodes once, when it loads the model.

    Args:
        names: the weight of each direction.
        gates: for each gate in the kernel's order, its position in the weight.
    """
    axis = spell.constant([0])

    def reordered(tensor: str) -> str:
        parts = spell.add("Split", tensor, spell.constant([hidden] * len(gates)), outputs=len(gates), axis=0)
        return spell.add("Concat", *(parts[gate] for gate in gates), axis=0)

    def stacked(tensors: Sequence[str]) -> str:
        rows = [spell.add("Unsqueeze", tensor, axis) for tensor in tensors]
        return rows[0] if len(rows) == 1 else spell.add("Concat", *rows, axis=0)

    storage = spell.storages[names[0]]
    by_row = isinstance(storage, Int8) and storage.axis == 0
    integers, scales = zip(*(spell.stored(name) for name in names), strict=True)
    q = stacked([spell.add("Transpose", reordered(each), perm=[1, 0]) for each in integers])
    scale = stacked([reordered(each) if by_row else each for each in scales])
    zeros = [[0] * (len(gates) * hidden) for _ in names] if by_row else [0 for _ in names]
    return q, scale, spell.constant(zeros, DType.i8)
