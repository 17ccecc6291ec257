"""Which stage of a pipeline each node of a graph is in.

The stages are in the graph itself: an operator that enters a stage (`to_stage`) stands on every edge that crosses into
one, and everything else is where its operands are.  What has no operands, and the inputs of the model, are in stage 0.
"""

from __future__ import annotations

from collections.abc import Mapping

from archc.diagnostics import ArchcError, error
from archc.ir.graph import Graph, Node, Value


class Stages:
    """The stages of a graph.

    Attributes:
        of_node: the stage of each node, in the graph's order.
        count: how many there are; 1 for a model without stages.
        devices: for each stage the device that the text names for it, or None.

    Raises:
        ArchcError: an operator takes tensors of different stages (`mixed-stages`), a tensor goes back to an earlier
            stage (`stage-backwards`), a stage is left out (`empty-stage`), or two devices are named for one stage
            (`two-devices`).
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
                    f"`{graph.name}` has a stage {max(stages)}, and nothing in stage {stage}",
                    later.span,
                    help="number the stages from 0 without a gap",
                )
        self.devices = tuple(self._devices.get(stage) for stage in range(self.count))

    def of_value(self, value: Value) -> int:
        """The stage that has a value: where it is made, or 0 for an input."""
        return 0 if value.producer is None else self.of_node[value.producer]

    def by_stage(self) -> Mapping[int, list[Node]]:
        """The nodes of each stage, in the graph's order."""
        found: dict[int, list[Node]] = {stage: [] for stage in range(self.count)}
        for node, stage in self.of_node.items():
            found[stage].append(node)
        return found

    def _enter(self, node: Node) -> int:
        held = [self.of_value(value) for value in node.operands] or [0]
        stage = node.op.enters_stage()
        if stage is None:
            if len(set(held)) > 1:
                raise self._mixed(node, held)
            return held[0]
        if stage < held[0]:
            raise error(
                "stage-backwards",
                f"a tensor of stage {held[0]} goes back to stage {stage}",
                node.span,
                help="a pipeline only goes forwards: give the later part the higher number",
            )
        self._name_device(node, stage)
        return stage

    def _mixed(self, node: Node, held: list[int]) -> ArchcError:
        last = max(held)
        early = next(value for value, stage in zip(node.operands, held, strict=True) if stage != last)
        name = f"`{early.name}`" if early.name else "the one of the earlier stage"
        return error(
            "mixed-stages",
            f"`{node.op.name}` takes tensors of stages {' and '.join(map(str, sorted(set(held))))}",
            node.span,
            help=f"send {name} there first: `-> to_stage({last})`",
        )

    def _name_device(self, node: Node, stage: int) -> None:
        device = node.op.names_device()
        if device is not None and self._devices.setdefault(stage, device) != device:
            raise error(
                "two-devices",
                f"stage {stage} is meant for `{self._devices[stage]}`, and here for `{device}`",
                node.span,
                help="name one device for a stage",
            )


def has_stages(graph: Graph) -> bool:
    """Whether a graph has stages at all."""
    return any(node.op.enters_stage() is not None for node in graph.nodes())
