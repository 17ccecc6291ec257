"""Notes and help for shapes that do not fit: where a tensor comes from, and what would have made it fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from archc.ir.graph import Node, Value
from archc.operator.base import Operator, OperatorError
from archc.types.attributes import attributes
from archc.types.tensor_type import TensorType

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
_LONGEST_SEARCH = 200  # nodes; advice must not cost more than the mistake


def describe(value: Value) -> list[str]:
    """A note that names the nearest tensor upstream that has a name or is a layer's, its type, and that layer."""
    named: Value | None = value
    while named is not None and named.name is None and (named.producer is None or named.producer.path is None):
        named = _upstream(named)
    if named is None:
        return []
    if named.producer is None:
        return [f"the input `{named.name}` is {named.type}"]
    layer: Value | None = named
    while layer is not None and layer.producer is not None and layer.producer.path is None:
        layer = _upstream(layer)
    if layer is None or layer.producer is None:
        return [f"`{named.name}` is {named.type}"]
    node = layer.producer
    line = f" (line {node.span.line})" if node.span is not None else ""
    if named.name is None:
        return [f"`{node.path}`{line} gives {named.type}"]
    return [f"`{named.name}` is {named.type}, from `{node.path}`{line}"]


def _upstream(value: Value) -> Value | None:
    return value.producer.operands[0] if value.producer is not None and value.producer.operands else None


def advise(op: Operator, operands: Sequence[Value], problem: OperatorError) -> str | None:
    """A way out of a shape mismatch, if a simple one is seen to work."""
    if problem.attribute is None or problem.operand is None:
        return None
    return _pad_convolutions(op, operands, problem)


def _pad_convolutions(op: Operator, operands: Sequence[Value], problem: OperatorError) -> str | None:
    """Would it fit if the convolutions before had padded their inputs?  Then that was meant."""
    assert problem.operand is not None
    chain: list[Node] = []
    value: Value | None = operands[problem.operand]
    while value is not None and value.producer is not None and len(chain) < _LONGEST_SEARCH:
        chain.append(value.producer)
        value = _upstream(value)
    padded = {node: found for node in chain if (found := node.op.with_same_padding()) is not None}
    if not padded or any(len(node.operands) != 1 for node in chain) or value is None:
        return None
    flow: TensorType = value.type
    try:
        for node in reversed(chain):
            flow = (padded[node][0] if node in padded else node.op).infer([flow]).results[0]
        op.infer([flow if k == problem.operand else v.type for k, v in enumerate(operands)])
    except OperatorError:
        return None
    spatial = next((n.operands[0].type.shape[2:] for n in chain if n.operands[0].type.rank > 2), ())
    paddings = {padding for _, padding in padded.values()}
    only = paddings.pop() if len(paddings) == 1 else None
    kernel = f" of kernel {2 * only + 1}" if only is not None else ""  # the one whose size p zeros on a side keep
    way = f"`padding = {only}`" if only is not None else "padding"
    count = _NUMBERS[len(padded)] if len(padded) < len(_NUMBERS) else str(len(padded))
    noun, verb = ("convolution", "leaves") if len(padded) == 1 else ("convolutions", "leave")
    size = "×".join(str(dim) for dim in spatial)
    return f"{count} {noun}{kernel} without padding {verb} {size}; add {way}, or drop `{problem.attribute}`"


def help_for_results(value: Any, wanted: int) -> str | None:
    """Help for an assignment to `wanted` names of a value that has another number of tensors."""
    if isinstance(value, tuple):
        return f"give {len(value)} names; one that begins with `_` may stay unused" if len(value) > 1 else None
    node = value.producer if isinstance(value, Value) else None
    if node is None:
        return None
    flags = [info for info in attributes(type(node.op)) if info.type is bool and not getattr(node.op, info.name)]
    for info in flags:
        results = replace(node.op, **{info.name: True}).infer(node.types).results
        if len(results) > 1:
            more = "" if len(results) == wanted else f", which gives {len(results)} tensors"
            return f"write `{info.name} = true` in the parentheses of `{node.op.name}`{more}"
    return None
