"""Which stages of a pipeline each statement of a program takes part in."""

from __future__ import annotations

from archc.codegen.outline.program import Apply, Nest, Statement, Use
from archc.drawing.instances import Peers
from archc.ir.graph import Graph, Scope
from archc.ir.stages import Stages, has_stages


class StageFinder:
    """Looks stages up.

    Attributes:
        count: how many there are; devices: what the text calls the device of each.
    """

    def __init__(self, graph: Graph):
        self._spans: dict[Scope, tuple[int, int]] = {}
        self._stages = Stages(graph) if has_stages(graph) else None
        self.count = self._stages.count if self._stages is not None else 1
        self.devices = self._stages.devices if self._stages is not None else ()
        if self._stages is not None:
            for node, stage in self._stages.of_node.items():
                for scope in node.scope.ancestors():
                    first, last = self._spans.get(scope, (stage, stage))
                    self._spans[scope] = min(first, stage), max(last, stage)

    def of(self, peers: Peers) -> tuple[int, int]:
        """The first and the last stage of a statement."""
        if self._stages is None:
            return 0, 0
        spans = [span for statement, own in peers for instance in own for span in self._of(statement, instance)]
        return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else (0, 0)

    def _of(self, statement: Statement, instance: int) -> list[tuple[int, int]]:
        assert self._stages is not None
        if isinstance(statement, Apply):
            stage = self._stages.of_node[statement.nodes[instance]]
            return [(stage, stage)]
        if isinstance(statement, Use):
            return [self._spans[statement.definition.scopes[statement.instances[instance]]]]
        assert isinstance(statement, Nest)
        return [span for body in statement.bodies for inner in body for span in self._of(inner, instance)]
