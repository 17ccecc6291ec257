"""Pass `simplify`: constant folding, common subexpressions, identities and dead code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from archc.declaration.base import Operator
from archc.declaration.traits import COMMUTATIVE, IMPURE
from archc.ir.graph import Graph, Node, Value
from archc.ir.match import NoMatch, match, pattern, result_of
from archc.ir.scans import scan_end, scan_parts
from archc.passmanager import Context, Pass

from ._constant_folding import ConstantFolder

_PAIR = pattern(
    (),
    result_of(pattern(where=lambda inner: not inner.weights and len(inner.results) == 1, bind="inner")),
    where=lambda outer: not outer.weights and len(outer.operands) == 1,
)
"""Two operators in sequence that one operator may replace; the first may have other uses."""


@dataclass(frozen=True)
class Simplify(Pass):
    """Fold constants, merge common subexpressions, and remove identities and dead code.

    - Constant folding: a value that depends on no input, no weight and no symbolic size is computed at compile time.
      A value with equal elements becomes the operator `full`.  Any other value of at most 64 KiB becomes a `constant`,
      which is stored with the weights.
    - Common subexpressions: two operators with equal attributes, operands and weights become one; the operands of a
      commutative operator may be in another order.  Two kinds are excluded: dropout, which draws new random numbers
      each time, and operators that update statistics.
    - Identities: x * 1, x + 0, a cast to the same dtype and a slice of everything are removed.  Two operators in
      sequence are removed if they cancel (two negations, two transposes).  The second of two operators is removed if
      it repeats the first (two relus).
    - Dead code: operators that no output depends on, and unused states and `yield` results of a `scan`, are removed.

    Each operator declares its own simplifications.  The results stay bitwise the same, also in training, with one
    exception: the sign of a zero may change, since x + 0 becomes x.
    """

    preserves = "exact"
    example = "simplify -> fold"

    def run(self, graph: Graph, context: Context) -> None:
        drop_unused_scan_results(graph, context)
        _remove_dead(context)
        folder = ConstantFolder(graph)
        seen: dict[tuple[Any, ...], Node] = {}
        computed: list[Node] = []
        # In topological order, the operands of a node are already simplified.
        for node in graph.nodes():
            if _simplify_node(graph, context, node, folder) or _merge_common(context, node, seen):
                continue
            folder.visit(node)
            if node.operands and node.results[0] in folder:
                computed.append(node)
        for node in computed:
            folder.replace(context, node)
        _remove_dead(context)
        if not context.remarks:
            context.note(graph.name, "nothing to simplify")


def _remove_dead(context: Context) -> None:
    for node in context.rewriter.remove_unused_nodes():
        context.rewrote(node, "removed: no output depends on it")


def _simplify_node(graph: Graph, context: Context, node: Node, folder: ConstantFolder) -> bool:
    """Simplify a node until no rule applies; return True if the node was removed."""
    while True:
        pair = match(_PAIR, node, graph)
        uniform = [folder.uniform(value) for value in node.operands]
        simpler = node.op.simplified(node.types, uniform)
        if simpler is not None:
            operands: Sequence[Value] = node.operands
            why = "it has no effect" if isinstance(simpler, int) else f"replaced by `{simpler}`"
        elif not isinstance(pair, NoMatch):
            inner: Node = pair["inner"]
            simpler = node.op.after(inner.op, inner.types)
            operands = inner.operands
            why = f"merged with `{inner.op.name}` before it"
        if simpler is None:
            return False
        if isinstance(simpler, int):
            if operands[simpler].type != node.result.type:
                return False
            context.rewrote(node, f"removed: {why}")
            context.rewriter.replace(node, [operands[simpler]])
            return True
        if not _change_operator(context, node, simpler, operands):
            return False
        context.rewrote(node, why)


def _change_operator(context: Context, node: Node, op: Operator, operands: Sequence[Value]) -> bool:
    """Change operator and operands of a node; return False if the node is not changed.

    A change of the result types is refused.
    """
    same = op == node.op and tuple(operands) == node.operands
    if same or op.infer([value.type for value in operands]).results != tuple(value.type for value in node.results):
        return False
    context.rewriter.set_operator_and_operands(node, op, operands)
    return True


def _merge_common(context: Context, node: Node, seen: dict[tuple[Any, ...], Node]) -> bool:
    """Replace a node by an earlier one that computes the same value; return True if the node was replaced."""
    if node.op.has(IMPURE):
        return False
    commutes = node.op.has(COMMUTATIVE)
    key = (node.op, tuple(sorted(node.operands, key=id)) if commutes else node.operands, node.bindings)
    first = seen.setdefault(key, node)
    # A layer with weights keeps its name: another layer may share the weights by that name.
    if first is node or (node.weights and first.path != node.path):
        return False
    context.rewrote(node, f"removed: common subexpression with `{first.title}`")
    context.rewriter.move_to_common_scope(first, node.scope)
    context.rewriter.replace(node, first.results)
    return True


def drop_unused_scan_results(graph: Graph, context: Context) -> None:
    """Remove states and results of `yield` from scans if no output depends on them.

    The operators that compute only these states and results become dead code.
    """
    for end in graph.nodes():
        if scan_end(end.op) == "exit":
            _drop_unused_results(graph, context, end)


def _drop_unused_results(graph: Graph, context: Context, end: Node) -> None:
    enter = cast("Node", end.operands[0].producer)
    states, sequences = scan_parts(end.op), scan_parts(enter.op)
    read = [bool(graph.consumers(value)) or graph.is_output(value) for value in end.results]
    kept = [number for number in range(states, len(read)) if read[number]]
    live = {number for number in range(states) if read[number]}
    while True:  # the steps may use a state whose final value is unused
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
    op = replace(end.op, states=len(live))  # type: ignore[call-arg]  # the operator `exit` has `states`
    shorter = rewriter.add(op, operands, near=end)
    for number, new in zip(left, shorter.results, strict=True):
        rewriter.replace_value(end.results[number], new)
    unread = len(read) - len(left)
    context.rewrote(shorter, f"removed {unread} of {len(read)} results: no output depends on them")


def _needed(values: Iterable[Value]) -> set[Value]:
    """The given values, and all values on which they depend."""
    found = set(values)
    stack = list(found)
    while stack:
        producer = stack.pop().producer
        for value in producer.operands if producer is not None else ():
            if value not in found:
                found.add(value)
                stack.append(value)
    return found
