"""`to_stage` on every edge of a graph that crosses into a later stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archc.ir.graph import Graph, Node, Value
from archc.ir.rewriter import Rewriter
from archc.ops.stage import ToStage


def cut(graph: Graph, rewriter: Rewriter, stage_of: Mapping[Node, int], devices: Sequence[str | None]) -> None:
    """Divide a graph.

    A tensor enters a later stage once, whoever needs it there.  What is only unpacked from smaller tensors is not sent:
    they are, and it is unpacked again where they arrive.  The inputs of the model enter stage 0 where that has a
    device.

    Args:
        stage_of: the stage of each node.
        devices: for each stage the device to name, or None.
    """
    _Cutter(graph, rewriter, devices).run(stage_of)


class _Cutter:
    def __init__(self, graph: Graph, rewriter: Rewriter, devices: Sequence[str | None]):
        self._graph, self._rewriter, self._devices = graph, rewriter, devices
        self._arrived: dict[tuple[Value, int], Value] = {}
        # What nodes used before anything was cut: an unpacker may be cut from its operands itself.
        self._operands = {node: node.operands for node in graph.nodes()}

    def run(self, stage_of: Mapping[Node, int]) -> None:
        for value, stage, users in _crossings(self._graph, stage_of):
            maker = value.producer
            if maker is not None and maker.op.decodes:
                arrived = self._unpacked(maker, stage, users)
            else:
                arrived = self._arrival(value, stage, users)
            self._rewriter.reroute(value, arrived, users)
        self._name_first_device()

    def _arrival(self, value: Value, stage: int, users: Sequence[Node]) -> Value:
        """A value in a later stage; it enters in the innermost block around its maker and all its users."""
        arrived = self._arrived.get((value, stage))
        if arrived is None:
            entry = ToStage(stage, device=self._devices[stage])
            scope = self._graph.scope if value.producer is None else None
            near = users[0] if value.producer is None else value.producer
            node = self._rewriter.add(entry, [value], scope=scope, near=near)
            arrived = self._arrived[value, stage] = node.result
        assert arrived.producer is not None
        for user in users:
            self._rewriter.lift(arrived.producer, user.scope)
        return arrived

    def _unpacked(self, maker: Node, stage: int, users: Sequence[Node]) -> Value:
        """The result of an unpacker, made again in a later stage."""
        operands = [self._arrival(value, stage, users) for value in self._operands[maker]]
        again = self._rewriter.add(maker.op, operands, near=maker)
        for user in users:
            self._rewriter.lift(again, user.scope)
        return again.result

    def _name_first_device(self) -> None:
        if self._devices[0] is None:
            return
        for value in self._graph.inputs:
            users = self._graph.consumers(value)
            if users:
                entry = self._rewriter.add(
                    ToStage(0, device=self._devices[0]), [value], scope=self._graph.scope, near=users[0]
                )
                self._rewriter.reroute(value, entry.result, users)


def _crossings(graph: Graph, stage_of: Mapping[Node, int]) -> list[tuple[Value, int, list[Node]]]:
    """Every value with each later stage that needs it, and who does so there."""
    found = []
    for value in (*graph.inputs, *(value for node in graph.nodes() for value in node.results)):
        made = 0 if value.producer is None else stage_of[value.producer]
        later: dict[int, list[Node]] = {}
        for node in graph.consumers(value):
            if stage_of[node] > made:
                later.setdefault(stage_of[node], []).append(node)
        found += [(value, stage, users) for stage, users in sorted(later.items())]
    return found
