"""Costs of pipeline stages: computation, transfers and memory.

The time of an operator follows the roofline model (Williams, Waterman, Patterson 2009, "Roofline: An Insightful Visual
Performance Model for Multicore Architectures"): the maximum of the time of its arithmetic and the time to move its
operands, weights and results.

A tensor passes through all stages from its producer to its last consumer.  Each of these stages except the last
one sends the tensor once, to the next stage.  The first stage of the model receives the inputs, and the last stage of
the model sends the outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archc.analysis.cost import NodeCosts, tensor_bytes
from archc.analysis.devices import Device, StageDevice
from archc.analysis.stage_transfers import required_sizes_by_node, stage_transfers, values_before_stages
from archc.frozen_dataclass import frozen_dataclass
from archc.ir.graph import Graph, Node
from archc.ir.stages import Stages, entered_stage

Sizes = Mapping[str, int]


@frozen_dataclass
class StageCost:
    """Costs of one stage.

    Attributes:
        stage: number of the stage, from 0.
        device: name of the device in messages.
        operators: number of operators.
        layers: paths of the named nodes.
        multiply_adds: multiply-adds of one run.
        weights: bytes of the weights; shared weights count once.
        activations: bytes of all results, which training keeps in memory.
        received, sent: bytes of the transferred tensors.
        work: seconds of computation.
        transfer: seconds of transfers.
    """

    stage: int
    device: str
    operators: int
    layers: tuple[str, ...]
    multiply_adds: int
    weights: int
    activations: int
    received: int
    sent: int
    work: float
    transfer: float

    @property
    def load(self) -> float:
        """Seconds of one run: computation and transfers."""
        return self.work + self.transfer

    @property
    def ends(self) -> str:
        """Paths of the first and the last layer, as a name in messages."""
        return " … ".join(dict.fromkeys((*self.layers[:1], *self.layers[-1:])))

    @property
    def memory(self) -> int:
        """Bytes of weights and activations."""
        return self.weights + self.activations

    def to_json(self) -> dict[str, Any]:
        """Return the costs as a JSON object."""
        return {
            "stage": self.stage,
            "device": self.device,
            "operators": self.operators,
            "layers": list(self.layers),
            "multiply_adds": self.multiply_adds,
            "weight_bytes": self.weights,
            "activation_bytes": self.activations,
            "received_bytes": self.received,
            "sent_bytes": self.sent,
            "work_seconds": self.work,
            "transfer_seconds": self.transfer,
            "load_seconds": self.load,
        }


class DeviceNodeCosts(NodeCosts):
    """Costs of single nodes in one run of a graph, including their times on devices."""

    def __init__(self, graph: Graph, sizes: Sizes):
        super().__init__(graph, sizes)
        self._weights, self._given = graph.weights, sizes

    def seconds(self, node: Node, device: Device) -> float:
        """Return the seconds of all executions of a node on a device.

        The operator `to_stage` takes 0 seconds, because it only marks where a stage begins.
        """
        if entered_stage(node.op) is not None:
            return 0.0
        moved = sum(tensor_bytes(value.type, self._given) for value in (*node.operands, *node.results))
        moved += sum(self._weights[path].nbytes for path in dict.fromkeys(node.weights.values()))
        return max(self.multiply_adds(node) / device.speed, self.times(node) * moved / device.bandwidth)


def stage_costs(graph: Graph, stages: Stages, places: Sequence[StageDevice], sizes: Sizes) -> list[StageCost]:
    """Return the costs of each stage.

    Args:
        places: device of each stage.
        sizes: values of symbolic sizes; missing sizes are 1.
    """
    received, sent = _transfers(graph, stages, sizes)
    costs = DeviceNodeCosts(graph, sizes)
    found = []
    for stage, nodes in stages.by_stage().items():
        own = [node for node in nodes if entered_stage(node.op) is None]
        weights = {path: graph.weights[path].nbytes for node in own for path in node.weights.values()}
        place = places[stage]
        found.append(
            StageCost(
                stage=stage,
                device=place.title,
                operators=len(own),
                layers=tuple(dict.fromkeys(node.path for node in own if node.path is not None)),
                multiply_adds=sum(costs.multiply_adds(node) for node in own),
                weights=sum(weights.values()),
                activations=sum(costs.activations(node) for node in own),
                received=received[stage],
                sent=sent[stage],
                work=sum(costs.seconds(node, place.device) for node in own),
                transfer=(received[stage] + sent[stage]) / place.link,
            )
        )
    return found


def _transfers(graph: Graph, stages: Stages, sizes: Sizes) -> tuple[list[int], list[int]]:
    """Return the bytes that each stage receives, and the bytes that it sends."""
    received, sent = [0] * stages.count, [0] * stages.count
    sources = values_before_stages(graph)
    outputs = {sources.get(value, value) for value in graph.outputs.values()}
    for value, last in stage_transfers(graph, stages.of_node, required_sizes_by_node(graph)).last_stages.items():
        size = tensor_bytes(value.type, sizes)
        if value.producer is not None:
            first = stages.of_node[value.producer]
        elif graph.consumers(value) or value in outputs:
            first = -1  # the first stage receives an input from outside
        else:
            continue
        for stage in range(first + 1, last + 1):
            received[stage] += size
        for stage in range(max(first, 0), stages.count if value in outputs else last):
            sent[stage] += size
    return received, sent


def duration(seconds: float) -> str:
    """Return a time with a suitable unit: `1.25 ms`."""
    for unit, factor in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
