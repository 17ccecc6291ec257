"""Quantized models in the form that ONNX Runtime runs with integer kernels, without changing what they compute.

ONNX Runtime finds its integer kernels by patterns: an operator between `DequantizeLinear` and `QuantizeLinear`.  Three
rewrites that change no result let it find them; all were measured on a small convolutional network.

- Rounding twice to one grid is rounding once.  So where a `QuantizeLinear` follows a `Reshape`, another pair is put
  before the `Reshape`: the layer before it ends in integers too, and not the one after it alone.
- `Relu` twice is `Relu` once.  A `QuantizeLinear` after a `MaxPool` is moved in front of it, which puts the pool of a
  convolution that stays in floats into a slow integer form; a second `Relu` behind the pool stands in its way.
- `Relu` is the maximum with zero.  Where no `QuantizeLinear` takes it up, a `Relu` is merged with the product before
  it, which then stays in floats and decodes its weight on every run; a `Max` is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from archc.codegen.onnx.int8.moves import INT8_MOVES
from archc.codegen.onnx.nodes import Record
from archc.codegen.onnx.unique_names import UniqueNames

_MOVES = frozenset(("Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"))
"""Operators that only move the elements of their first input."""


_PRODUCTS = frozenset(("Conv", "Gemm"))


def make_fusible(
    records: list[Record],
    outputs: Collection[str],
    names: UniqueNames,
    zero: Callable[[], str],
    is_int8: Callable[[str], bool],
) -> list[Record]:
    """The nodes with those rewrites; models that quantize nothing come back as they are.

    Args:
        records: the nodes, each after those it uses; changed in place.
        outputs: the names of the model's outputs.
        names: the names of values that are taken.
        zero: gives the name of a constant 0 of f32.
        is_int8: whether a zero point, given by its name, is a single int8.
    """
    # One with a scale for each place along an axis must stay where that axis is.
    quantizers = [r for r in records if r.op_type == "QuantizeLinear" and r.attributes.get("axis") is None]
    if not quantizers:
        return records
    producers = {name: record for record in records for name in record.outputs}
    uses = Counter(name for record in records for name in record.inputs)
    uses.update(outputs)
    taken_up = _before_quantizers(quantizers, producers)
    for record in records:
        if record.op_type == "Relu" and record.outputs[0] not in taken_up:
            product = producers.get(record.inputs[0])
            if product is not None and product.op_type in _PRODUCTS and _is_quantized(product, producers):
                record.op_type = "Max"
                record.inputs.append(zero())
    before: dict[int, list[Record]] = {}
    for quantizer in quantizers:
        moved = _first_move(quantizer, producers, uses, INT8_MOVES if is_int8(quantizer.inputs[2]) else _MOVES)
        target = quantizer if moved is None else moved
        steps: list[tuple[str, list[str]]] = []
        if _is_pooled_in_floats(target.inputs[0], producers):
            steps.append(("Relu", []))
        if moved is not None:
            grid = quantizer.inputs[1:]
            steps += [("QuantizeLinear", grid), ("DequantizeLinear", grid)]
        before.setdefault(id(target), []).extend(_insert(steps, target, names))
    return [one for record in records for one in (*before.get(id(record), ()), record)]


def _insert(steps: list[tuple[str, list[str]]], target: Record, names: UniqueNames) -> list[Record]:
    """The nodes that stand between a node and its first input from now on: operators with their further inputs."""
    source = target.inputs[0]
    new = []
    for op_type, further in steps:
        name = names.unique(f"{source}/{op_type}")
        new.append(Record(op_type, [target.inputs[0], *further], [name], {}, name=name))
        target.inputs[0] = name
    return new


def _first_move(
    quantizer: Record, producers: dict[str, Record], uses: Counter[str], moves: Collection[str]
) -> Record | None:
    """The first of the moves whose result goes to a quantizer and to nobody else."""
    found = None
    name = quantizer.inputs[0]
    while uses[name] == 1 and name in producers and producers[name].op_type in moves:
        found = producers[name]
        name = found.inputs[0]
    return found


def _before_quantizers(quantizers: list[Record], producers: dict[str, Record]) -> set[str]:
    """The values that quantizers take, or would take if they were moved in front of what only picks elements."""
    found = set()
    for quantizer in quantizers:
        name = quantizer.inputs[0]
        found.add(name)
        while name in producers and producers[name].op_type in _MOVES | {"MaxPool"}:
            name = producers[name].inputs[0]
            found.add(name)
    return found


def _is_quantized(product: Record, producers: dict[str, Record]) -> bool:
    """Whether the weight of a product is decoded from integers in the way that integer kernels are found by."""
    weight = producers.get(product.inputs[1])
    return weight is not None and weight.op_type == "DequantizeLinear"


def _is_pooled_in_floats(name: str, producers: dict[str, Record]) -> bool:
    """Whether a value comes out of a `MaxPool` of a `Relu` of a `Conv` whose weight is not quantized."""
    for op_type in ("MaxPool", "Relu", "Conv"):
        record = producers.get(name)
        if record is None or record.op_type != op_type:
            return False
        name = record.inputs[0]
    assert record is not None
    return not _is_quantized(record, producers)
