"""Pipeline stages of the nodes of a graph.

Operators determine the stages.  An operator such as `to_stage` is in the stage that it enters.  Any other node is in
the stage of its operands.  Nodes without operands and the inputs of the model are in stage 0.
"""

from __future__ import annotations

from collections.abc import Mapping

from archc.declaration.base import Operator
from archc.declaration.traits import StageEntry
from archc.diagnostics import ArchcError, error
from archc.ir.graph import Graph, Node, Value


def entered_stage(op: Operator) -> int | None:
    """Return the stage of the result; None if it is the stage of the operands."""
    entry = op.trait(StageEntry)
    return None if entry is None else entry.stage(op)


class Stages:
    """The stages of a graph.

    Attributes:
        of_node: stage of each node, in the order of the graph.
        count: number of stages; 1 for a model without stages.
        devices: for each stage, the device that the text gives it, or None.

    Raises:
        ArchcError: an operator has operands of different stages (`mixed-stages`), a tensor is sent to an earlier
            stage (`stage-backwards`), a stage has no operators (`empty-stage`), or the text names two devices for one
            stage (`two-devices`).
    """

    def __init__(self, graph: Graph):
        self.of_node: dict[Node, int] = {}
        self._devices: dict[int, str] = {}
        for node in graph.nodes():
            self.of_node[node] = self._enter(node)
        stages = set(self.of_node.values()) | {0}
        self.count = max(stages) + 1
        for stage in range(self.count):
            if stage not in stages:
                later = next(node for node, own in self.of_node.items() if own > stage)
                raise error(
                    "empty-stage",
                    f"`{graph.name}` has a stage {max(stages)}, but no operators in stage {stage}",
                    later.span,
                    help="number the stages from 0 without gaps",
                )
        self.devices = tuple(self._devices.get(stage) for stage in range(self.count))

    def of_value(self, value: Value) -> int:
        """Return the stage that produces a value; 0 for an input."""
        return 0 if value.producer is None else self.of_node[value.producer]

    def by_stage(self) -> Mapping[int, list[Node]]:
        """Return the nodes of each stage, in the order of the graph."""
        found: dict[int, list[Node]] = {stage: [] for stage in range(self.count)}
        for node, stage in self.of_node.items():
            found[stage].append(node)
        return found

    def _enter(self, node: Node) -> int:
        held = [self.of_value(value) for value in node.operands] or [0]
        stage = entered_stage(node.op)
        if stage is None:
            if len(set(held)) > 1:
                raise self._mixed(node, held)
            return held[0]
        if stage < held[0]:
            raise error(
                "stage-backwards",
                f"a tensor of stage {held[0]} is sent back to stage {stage}",
                node.span,
                help=f"tensors go only to later stages: use `to_stage({held[0]})` or a higher number",
            )
        self._name_device(node, stage)
        return stage

    def _mixed(self, node: Node, held: list[int]) -> ArchcError:
        last = max(held)
        early = next(value for value, stage in zip(node.operands, held, strict=True) if stage != last)
        name = f"`{early.name}`" if early.name else "the operand of the earlier stage"
        return error(
            "mixed-stages",
            f"`{node.op.name}` has operands of the stages {' and '.join(map(str, sorted(set(held))))}",
            node.span,
            help=f"send {name} to stage {last} first: `-> to_stage({last})`",
        )

    def _name_device(self, node: Node, stage: int) -> None:
        entry = node.op.trait(StageEntry)
        device = None if entry is None else entry.device(node.op)
        if device is not None and self._devices.setdefault(stage, device) != device:
            raise error(
                "two-devices",
                f"stage {stage} is on the device `{self._devices[stage]}`, but this operator names `{device}`",
                node.span,
                help=f'name one device for a stage: `to_stage({stage}, device = "{self._devices[stage]}")`',
            )


def has_stages(graph: Graph) -> bool:
    """Return True if a graph is divided into stages."""
    return any(node.op.trait(StageEntry) is not None for node in graph.nodes())
