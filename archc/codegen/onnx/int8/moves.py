"""Dequantize int8 values after the operators that only move elements.

ONNX Runtime 1.31 does the same: it inserts a `QuantizeLinear` with the `output_dtype` INT8 after the move.  Then it
converts int8 to uint8, keeps that attribute, and refuses its own graph.  It inserts nothing if the model already
dequantizes after the move.  The results are the same: a move creates no values, and dequantizing keeps their order, by
which `MaxPool` chooses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from archc.codegen.onnx.nodes import Record
from archc.codegen.onnx.unique_names import UniqueNames

INT8_MOVES = frozenset(("Flatten", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"))
"""Operators past which ONNX Runtime moves quantize and dequantize nodes, and `Flatten`."""


def decode_late(
    records: list[Record], outputs: Collection[str], names: UniqueNames, is_int8: Callable[[str], bool]
) -> list[Record]:
    """Replace dequantize nodes before moves by such nodes after them, for int8; return all nodes.

    Args:
        records: the nodes, each after those it uses; changed in place.
        outputs: the names that are used outside these nodes.
        names: the names in use, to which new ones are added.
        is_int8: whether a zero point, given by its name, is a single int8.
    """
    decoded: dict[str, Record] = {}
    made: list[Record] = []
    for record in records:
        made.append(record)
        if record.op_type == "DequantizeLinear" and is_int8(record.inputs[2]):
            decoded[record.outputs[0]] = record
        elif record.op_type in INT8_MOVES and record.inputs[0] in decoded:
            before, result = decoded[record.inputs[0]], record.outputs[0]
            record.inputs[0], record.outputs[0] = before.inputs[0], names.unique(f"{result}/int8")
            inputs = [record.outputs[0], *before.inputs[1:]]
            after = Record("DequantizeLinear", inputs, [result], {}, name=names.unique(f"{result}/decode"))
            decoded[result] = after
            made.append(after)
    uses = Counter(name for record in made for name in record.inputs)
    uses.update(outputs)
    return [one for one in made if one.outputs[0] not in decoded or uses[one.outputs[0]]]
