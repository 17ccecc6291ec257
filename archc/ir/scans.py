"""Which operators are repeated: the steps of a `scan`.

A graph is flat.  A scan is two nodes, where a step begins and where it ends, and what depends on the one and leads to
the other is the step.  What a step uses without depending on it is computed once, before the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from archc.ir.graph import Graph, Node, Value
from archc.types.extent_solver import Extent


@dataclass(frozen=True, eq=False)
class Scan:
    """A recurrence.

    Attributes:
        enter, exit: where a step begins and ends.
        body: the nodes and scans of a step, each after what it uses.
    """

    enter: Node
    exit: Node
    body: tuple[Node | Scan, ...]

    @property
    def nodes(self) -> Iterator[Node]:
        """All nodes, the two ends and those of inner scans included."""
        yield self.enter
        for item in self.body:
            if isinstance(item, Scan):
                yield from item.nodes
            else:
                yield item
        yield self.exit

    @property
    def sequences(self) -> tuple[Value, ...]:
        """What it goes through, step by step."""
        return self.enter.operands[: self.enter.op.scan_parts]

    @property
    def first_states(self) -> tuple[Value, ...]:
        return self.enter.operands[self.enter.op.scan_parts :]

    @property
    def next_states(self) -> tuple[Value, ...]:
        """What each state becomes in a step."""
        return self.exit.operands[2 : 2 + 2 * self.exit.op.scan_parts : 2]

    @property
    def kept(self) -> tuple[Value, ...]:
        """What is kept of each step."""
        return self.exit.operands[1 + 2 * self.exit.op.scan_parts :]

    @property
    def operands(self) -> dict[Value, None]:
        """What it uses from outside, the operands of `enter` first."""
        made = {value for node in self.nodes for value in node.results}
        return {value: None for node in self.nodes for value in node.operands if value not in made}


def schedule(graph: Graph) -> list[Node | Scan]:
    """The nodes of a graph in order, those of a scan together in it.

    Raises:
        ValueError: an end without its other, or a scan whose insides are used outside of it.
    """
    nodes = graph.nodes()
    items: list[Node | Scan] = list(nodes)
    # The ends of inner scans come first: a scan's nodes are put together from the inside out.
    for end in [node for node in nodes if node.op.scan_end == "exit"]:
        items = _gathered(items, end)
    for item in items:
        if isinstance(item, Node) and item.op.scan_end:
            raise ValueError(f"{item.title} begins steps that do not end")
        if isinstance(item, Scan):
            made = {value for node in item.nodes if node is not item.exit for value in node.results}
            for name, value in graph.outputs.items():
                if value in made:
                    raise ValueError(f"the output {name} is a value of a step of {item.enter.title}, used from outside")
    return items


def _gathered(items: list[Node | Scan], end: Node) -> list[Node | Scan]:
    """The items with those of one scan in it."""
    enter = end.operands[0].producer
    if enter is None or enter.op.scan_end != "enter":
        raise ValueError(f"{end.title} ends steps that do not begin")
    maker = {value: item for item in items for value in _results(item)}
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
    made = {value for item in inside.values() for value in _results(item)}
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
    """How often each node is repeated in one run, for those that are."""
    found: dict[Node, Extent] = {}

    def count(items: Sequence[Node | Scan], times: Extent) -> None:
        for item in items:
            if isinstance(item, Scan):
                inner = times * item.exit.op.infer(item.exit.types).solution.extents["t"]
                found[item.enter] = inner  # what the other end makes is there once
                if times != 1:
                    found[item.exit] = times
                count(item.body, inner)
            elif times != 1:
                found[item] = times

    count(schedule(graph), 1)
    return found


def scan_destinations(end: Node, position: int) -> list[Value]:
    """What an operand of one end of a scan is called later: within a step, in the next one, or after all of them."""
    if end.op.scan_end == "enter":
        return [end.results[1 + position]]
    states = end.op.scan_parts
    if position > 2 * states:
        return [end.results[position - 1 - states]]
    if position == 0 or position % 2:  # the mark of the beginning, and what a state was
        return []
    return [end.operands[position - 1], end.results[position // 2 - 1]]


def _results(item: Node | Scan) -> Sequence[Value]:
    return item.results if isinstance(item, Node) else item.exit.results


def _operands(item: Node | Scan) -> Sequence[Value]:
    return item.operands if isinstance(item, Node) else tuple(item.operands)
