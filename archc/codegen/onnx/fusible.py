"""Quantized models in the form that ONNX Runtime runs with integer kernels, without changing what they compute.

ONNX Runtime finds its integer kernels by patterns: an operator between `DequantizeLinear` and `QuantizeLinear`.  Two
rewrites that change no result let it find them; both were measured on a small convolutional network.

- Rounding twice to one grid is rounding once.  So where a `QuantizeLinear` follows a `Reshape`, another pair is put
  before the `Reshape`: the layer before it ends in integers too, and not the one after it alone.
- `Relu` twice is `Relu` once.  A `QuantizeLinear` after a `MaxPool` is moved in front of it, which puts the pool of a
  convolution that stays in floats into a slow integer form; a second `Relu` behind the pool stands in its way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from archc.codegen.onnx.names import Names
from archc.codegen.onnx.nodes import Record

_MOVES = frozenset(("Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"))
"""Operators that only move the elements of their first input."""


def make_fusible(records: list[Record], outputs: Collection[str], names: Names) -> list[Record]:
    """The nodes with those rewrites; models that quantize nothing come back as they are.

    Args:
        records: the nodes, each after those it uses; changed in place.
        outputs: the names of the model's outputs.
        names: the names of values that are taken.
    """
    # One with a scale for each place along an axis must stay where that axis is.
    quantizers = [r for r in records if r.op_type == "QuantizeLinear" and r.attributes.get("axis") is None]
    if not quantizers:
        return records
    producers = {name: record for record in records for name in record.outputs}
    uses = Counter(name for record in records for name in record.inputs)
    uses.update(outputs)
    before: dict[int, list[Record]] = {}
    for quantizer in quantizers:
        moved = _first_move(quantizer, producers, uses)
        target = quantizer if moved is None else moved
        steps: list[tuple[str, list[str]]] = []
        if _is_pooled_in_floats(target.inputs[0], producers):
            steps.append(("Relu", []))
        if moved is not None:
            grid = quantizer.inputs[1:]
            steps += [("QuantizeLinear", grid), ("DequantizeLinear", grid)]
        before.setdefault(id(target), []).extend(_insert(steps, target, names))
    return [one for record in records for one in (*before.get(id(record), ()), record)]


def _insert(steps: list[tuple[str, list[str]]], target: Record, names: Names) -> list[Record]:
    """The nodes that stand between a node and its first input from now on: operators with their further inputs."""
    source = target.inputs[0]
    new = []
    for op_type, further in steps:
        name = names.unique(f"{source}/{op_type}")
        new.append(Record(op_type, [target.inputs[0], *further], [name], {}, name=name))
        target.inputs[0] = name
    return new


def _first_move(quantizer: Record, producers: dict[str, Record], uses: Counter[str]) -> Record | None:
    """The first of the moves whose result goes to a quantizer and to nobody else."""
    found = None
    name = quantizer.inputs[0]
    while uses[name] == 1 and name in producers and producers[name].op_type in _MOVES:
        found = producers[name]
        name = found.inputs[0]
    return found


def _is_pooled_in_floats(name: str, producers: dict[str, Record]) -> bool:
    """Whether a value comes out of a `MaxPool` of a `Relu` of a `Conv` whose weight is not quantized."""
    for op_type in ("MaxPool", "Relu", "Conv"):
        record = producers.get(name)
        if record is None or record.op_type != op_type:
            return False
        name = record.inputs[0]
    assert record is not None
    weight = producers.get(record.inputs[1])
    return weight is None or weight.op_type != "DequantizeLinear"
