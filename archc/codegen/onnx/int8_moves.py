"""Int8 values decoded after the operators that only move elements.

ONNX Runtime 1.31 moves decoding there itself: it inserts a `QuantizeLinear` with the `output_dtype` INT8 after the
move.  Then it turns int8 into uint8, keeps that attribute, and refuses its own graph.  Where the model decodes after
the move already, nothing is inserted.  The results are the same: a move makes no new values, and decoding keeps the
order by which `MaxPool` chooses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from archc.codegen.onnx.names import Names
from archc.codegen.onnx.nodes import Record

INT8_MOVES = frozenset(("Flatten", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"))
"""Operators past which ONNX Runtime moves rounding and decoding, and `Flatten`."""


def decode_late(
    records: list[Record], outputs: Collection[str], names: Names, is_int8: Callable[[str], bool]
) -> list[Record]:
    """The nodes with int8 decoded after moves.

    Args:
        records: the nodes, each after those it uses; changed in place.
        outputs: the names that are used elsewhere.
        names: the names of values that are taken.
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
