"""What the stages of a pipeline cost: work, transfers and memory, from the signatures and what the devices can do.

The time of an operator follows the roofline model (Williams, Waterman, Patterson 2009, "Roofline: An Insightful Visual
Performance Model for Multicore Architectures"): it is the time of its arithmetic or that of moving its operands, its
weights and its results, whichever is longer.  A tensor travels along the chain: every stage between the one that makes
it and the last one that needs it receives it once and sends it once.  Inputs come in at the first stage, and outputs
leave from the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archc.analysis.cost import NodeCosts, tensor_bytes
from archc.analysis.devices import Device, StageDevice
from archc.analysis.stage_transfers import required_sizes_by_node, stage_transfers, values_before_stages
from archc.ir.graph import Graph, Node
from archc.ir.stages import Stages

Sizes = Mapping[str, int]


@dataclass(frozen=True)
class StageCost:
    """Figures of one stage.

    Attributes:
        device: what it is meant for, or what was assumed.
        layers: the paths of its named nodes.
        weights: bytes of the weights, one that several layers share counted once; activations: bytes of all
            results, as training keeps them.
        received, sent: bytes; the first stage receives the inputs of the model, the last one sends its outputs.
        work, transfer: seconds.
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
        """Seconds for one run: work and transfers."""
        return self.work + self.transfer

    @property
    def ends(self) -> str:
        """The first and the last of its layers, to call it by."""
        return " … ".join(dict.fromkeys((*self.layers[:1], *self.layers[-1:])))

    @property
    def memory(self) -> int:
        """Bytes: weights and activations."""
        return self.weights + self.activations

    def to_json(self) -> dict[str, Any]:
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
    """What single nodes of a graph cost in one run, and how long they take."""

    def __init__(self, graph: Graph, sizes: Sizes):
        super().__init__(graph, sizes)
        self._weights, self._given = graph.weights, sizes

    def seconds(self, node: Node, device: Device) -> float:
        """The time on a device; entering a stage is no work."""
        if node.op.enters_stage() is not None:
            return 0.0
        moved = sum(tensor_bytes(value.type, self._given) for value in (*node.operands, *node.results))
        moved += sum(self._weights[path].nbytes for path in dict.fromkeys(node.weights.values()))
        return max(self.multiply_adds(node) / device.speed, self.times(node) * moved / device.bandwidth)


def stage_costs(graph: Graph, stages: Stages, places: Sequence[StageDevice], sizes: Sizes) -> list[StageCost]:
    """The figures of each stage.

    Args:
        places: the device of each stage.
        sizes: values of symbolic sizes; those that it lacks are 1.
    """
    received, sent = _transfers(graph, stages, sizes)
    costs = DeviceNodeCosts(graph, sizes)
    found = []
    for stage, nodes in stages.by_stage().items():
        own = [node for node in nodes if node.op.enters_stage() is None]
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
    """The bytes that each stage receives and sends."""
    received, sent = [0] * stages.count, [0] * stages.count
    sources = values_before_stages(graph)
    outputs = {sources.get(value, value) for value in graph.outputs.values()}
    for value, last in stage_transfers(graph, stages.of_node, required_sizes_by_node(graph)).last_stages.items():
        size = tensor_bytes(value.type, sizes)
        if value.producer is not None:
            first = stages.of_node[value.producer]
        elif graph.consumers(value) or value in outputs:
            first = -1  # it comes from outside
        else:
            continue
        for stage in range(first + 1, last + 1):
            received[stage] += size
        for stage in range(max(first, 0), stages.count if value in outputs else last):
            sent[stage] += size
    return received, sent


def duration(seconds: float) -> str:
    """A time as a person reads it: `1.25 ms`."""
    for unit, factor in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
