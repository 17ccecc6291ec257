"""Scans without what nobody reads of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

from archc.ir.graph import Graph, Node, Value
from archc.passmanager import Context


def drop_unread(graph: Graph, context: Context) -> None:
    """Leave out the states and sequences of scans that no output depends on; what made them is dead then."""
    for end in graph.nodes():
        if end.op.scan_end == "exit":
            _shorten(graph, context, end)


def _shorten(graph: Graph, context: Context, end: Node) -> None:
    enter = cast("Node", end.operands[0].producer)
    states, sequences = end.op.scan_parts, enter.op.scan_parts
    read = [bool(graph.consumers(value)) or graph.is_output(value) for value in end.results]
    kept = [number for number in range(states, len(read)) if read[number]]
    live = {number for number in range(states) if read[number]}
    while True:  # a state that nobody reads at last may still be read by the steps
        wanted = [end.operands[2 + 2 * number] for number in live]
        needed = _needed([*wanted, *(end.operands[1 + states + number] for number in kept)])
        more = {number for number in range(states) if end.operands[1 + 2 * number] in needed}
        if more <= live:
            break
        live |= more
    left = [*sorted(live), *kept]
    if not left or len(left) == len(read):
        return
    rewriter = context.rewriter
    begins = [*range(sequences), *(sequences + number for number in sorted(live))]
    begin = rewriter.add(enter.op, [enter.operands[number] for number in begins], near=enter)
    for old, new in zip((0, *(1 + number for number in begins)), begin.results, strict=True):
        rewriter.replace_value(enter.results[old], new)
    pairs = [value for number in sorted(live) for value in end.operands[1 + 2 * number : 3 + 2 * number]]
    operands = [begin.results[0], *pairs, *(end.operands[1 + states + number] for number in kept)]
    op = replace(end.op, states=len(live))  # type: ignore[call-arg]  # the end of a scan has it
    shorter = rewriter.add(op, operands, near=end)
    for number, new in zip(left, shorter.results, strict=True):
        rewriter.replace_value(end.results[number], new)
    unread = len(read) - len(left)
    context.rewrote(shorter, f"without {unread} of {len(read)} results: no output depends on them")


def _needed(values: Iterable[Value]) -> set[Value]:
    """The values with all that they are made of."""
    found = set(values)
    stack = list(found)
    while stack:
        producer = stack.pop().producer
        for value in producer.operands if producer is not None else ():
            if value not in found:
                found.add(value)
                stack.append(value)
    return found
