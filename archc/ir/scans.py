"""Scans of a graph: nodes that are repeated in the steps of a recurrence.

A graph is flat.  A scan has two end nodes: `enter` begins a step, and `exit` ends the step.  The body of a step
consists of the nodes between: they depend on `enter`, and `exit` depends on them.  Operands of the body that do not
depend on `enter` are computed once, before the first step.

The operands of `enter` are the sequences, then the states of the first step.  Its results are a mark, then the elements
of the sequences in this step, then the states before the step.  The operands of `exit` are the mark, then for each
state its value before the step and its value after the step, then the values to stack.  Its results are the final
states, then the stacked values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from archc.declaration.base import Operator
from archc.declaration.traits import ScanEnd
from archc.frozen_dataclass import frozen_by_identity
from archc.ir.graph import Graph, Node, Value
from archc.types.extent_solver import Extent


def scan_end(op: Operator) -> Literal["", "enter", "exit"]:
    """Return `enter` or `exit` for the operators at the ends of a step; else an empty text."""
    end = op.trait(ScanEnd)
    return "" if end is None else end.end


def scan_parts(op: Operator) -> int:
    """Return the number of sequences of `enter`, or the number of states of `exit`."""
    end = op.trait(ScanEnd)
    return 0 if end is None else end.count(op)


@frozen_by_identity
class Scan:
    """A recurrence over a sequence.

    Attributes:
        enter, exit: nodes at the beginning and the end of a step.
        body: nodes and inner scans of a step, in topological order.
    """

    enter: Node
    exit: Node
    body: tuple[Node | Scan, ...]

    @property
    def nodes(self) -> Iterator[Node]:
        """All nodes, including the two ends and the nodes of inner scans."""
        yield self.enter
        for item in self.body:
            if isinstance(item, Scan):
                yield from item.nodes
            else:
                yield item
        yield self.exit

    @property
    def sequences(self) -> tuple[Value, ...]:
        """Operands of `enter` that are sequences; each step gets one element of each sequence."""
        return self.enter.operands[: scan_parts(self.enter.op)]

    @property
    def first_states(self) -> tuple[Value, ...]:
        """Operands of `enter` that are the states of the first step."""
        return self.enter.operands[scan_parts(self.enter.op) :]

    @property
    def next_states(self) -> tuple[Value, ...]:
        """Values in the body that are the states of the next step."""
        return self.exit.operands[2 : 2 + 2 * scan_parts(self.exit.op) : 2]

    @property
    def kept(self) -> tuple[Value, ...]:
        """Values in the body that are stacked over all steps into results."""
        return self.exit.operands[1 + 2 * scan_parts(self.exit.op) :]

    @property
    def operands(self) -> dict[Value, None]:
        """Values from outside that the scan uses, the operands of `enter` first."""
        made = {value for node in self.nodes for value in node.results}
        return {value: None for node in self.nodes for value in node.operands if value not in made}


def schedule(graph: Graph) -> list[Node | Scan]:
    """Return the nodes and the scans of a graph in topological order.

    Raises:
        ValueError: a scan has only one end, or a value in the body of a scan is used outside the scan.
    """
    nodes = graph.nodes()
    items: list[Node | Scan] = list(nodes)
    # An inner scan ends before the outer scan, so inner scans are assembled first.
    for end in [node for node in nodes if scan_end(node.op) == "exit"]:
        items = _gathered(items, end)
    for item in items:
        if isinstance(item, Node) and scan_end(item.op):
            raise ValueError(f"{item.title} begins a scan without an end")
        if isinstance(item, Scan):
            made = {value for node in item.nodes if node is not item.exit for value in node.results}
            for name, value in graph.outputs.items():
                if value in made:
                    raise ValueError(f"the output {name} is a value of a step of {item.enter.title}, used from outside")
    return items


def _gathered(items: list[Node | Scan], end: Node) -> list[Node | Scan]:
    """Merge the nodes and inner scans of one scan into a `Scan`, and return the changed items.

    Args:
        end: the `exit` node of the scan.
    """
    enter = end.operands[0].producer
    if enter is None or scan_end(enter.op) != "enter":
        raise ValueError(f"{end.title} ends a scan without a beginning")
    maker = {value: item for item in items for value in results_of(item)}
    position = {id(item): number for number, item in enumerate(items)}
    needed: set[int] = set()
    stack: list[Node | Scan] = [end]
    first = position[id(enter)]
    while stack:
        for value in _operands(stack.pop()):
            item = maker.get(value)
            if item is not None and id(item) not in needed and position[id(item)] > first:
                needed.add(id(item))
                stack.append(item)
    inside: dict[int, Node | Scan] = {id(enter): enter}
    for item in items[first + 1 : position[id(end)]]:
        depends = any(id(maker[value]) in inside for value in _operands(item) if value in maker)
        if depends and id(item) in needed:
            inside[id(item)] = item
    body = tuple(item for item in inside.values() if item is not enter)
    scan = Scan(enter, end, body)
    made = {value for item in inside.values() for value in results_of(item)}
    found: list[Node | Scan] = []
    for item in items:
        if id(item) in inside:
            continue
        if item is end:
            found.append(scan)
            continue
        leaked = next((value for value in _operands(item) if value in made), None)
        if leaked is not None:
            title = item.title if isinstance(item, Node) else item.enter.title
            raise ValueError(f"{title} uses a value of a step of {enter.title} from outside")
        found.append(item)
    return found


def repetition_counts(graph: Graph) -> dict[Node, Extent]:
    """Return the number of executions per run of the graph, for each node that is executed repeatedly."""
    found: dict[Node, Extent] = {}

    def count(items: Sequence[Node | Scan], times: Extent) -> None:
        for item in items:
            if isinstance(item, Scan):
                inner = times * item.exit.op.infer(item.exit.types).solution.extents["t"]
                found[item.enter] = inner
                if times != 1:  # `exit` is executed once for each run of the scan
                    found[item.exit] = times
                count(item.body, inner)
            elif times != 1:
                found[item] = times

    count(schedule(graph), 1)
    return found


def scan_destinations(end: Node, position: int) -> list[Value]:
    """Return the values to which a scan passes an operand of `enter` or `exit`.

    An operand of `enter` becomes a value of the step.  An operand of `exit` becomes a state of the next step and a
    final state, or an element of a stacked result.
    """
    if scan_end(end.op) == "enter":
        return [end.results[1 + position]]
    states = scan_parts(end.op)
    if position > 2 * states:
        return [end.results[position - 1 - states]]
    if position == 0 or position % 2:  # the mark, or the value of a state before the step: neither is passed on
        return []
    return [end.operands[position - 1], end.results[position // 2 - 1]]


def results_of(item: Node | Scan) -> Sequence[Value]:
    """Results of a node, or of a scan as a whole."""
    return item.results if isinstance(item, Node) else item.exit.results


def _operands(item: Node | Scan) -> Sequence[Value]:
    return item.operands if isinstance(item, Node) else tuple(item.operands)
