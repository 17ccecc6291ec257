"""All splits of a small graph, tried one after the other: what the best one is, told without any search."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping

from archc.analysis.cost import tensor_bytes
from archc.analysis.devices import Device
from archc.analysis.stage_costs import DeviceNodeCosts
from archc.ir.graph import Graph, Node


def best_bottleneck(
    graph: Graph, count: int, device: Device, link: float, sizes: Mapping[str, int], memory: float = math.inf
) -> float:
    """The least time that the largest of `count` stages can take; infinite where no split fits the memory."""
    nodes = graph.nodes()
    costs = DeviceNodeCosts(graph, sizes)
    work = {node: costs.seconds(node, device) for node in nodes}
    results = {node: costs.activations(node) for node in nodes}
    best = math.inf
    for stage_of in _splits(graph, nodes, count):
        loads, held = [0.0] * count, [0.0] * count
        for node, stage in stage_of.items():
            loads[stage] += work[node]
            held[stage] += results[node]
        for path, weight in graph.weights.items():
            for stage in {stage_of[node] for node in nodes if path in node.weights.values()}:
                held[stage] += weight.nbytes
        for value in (*graph.inputs, *(value for node in nodes for value in node.results)):
            users = [stage_of[node] for node in graph.consumers(value)]
            time = tensor_bytes(value.type, sizes) / link
            made = -1 if value.producer is None else stage_of[value.producer]
            if graph.is_output(value):
                users.append(count - 1)
                loads[-1] += time  # it leaves from there
            for stage in range(made + 1, max(users, default=made) + 1):
                loads[stage] += time  # receives it
                if stage:
                    loads[stage - 1] += time  # sends it
        if max(held) <= memory:
            best = min(best, max(loads))
    return best


def _splits(graph: Graph, nodes: list[Node], count: int) -> Iterator[dict[Node, int]]:
    """Every way to give the nodes stages so that nothing goes backwards and no stage is empty."""
    for stages in itertools.product(range(count), repeat=len(nodes)):
        if len(set(stages)) < count:
            continue
        stage_of = dict(zip(nodes, stages, strict=True))
        forwards = all(
            value.producer is None or stage_of[value.producer] <= stage_of[node]
            for node in nodes
            for value in node.operands
        )
        if forwards and all(stage_of[node] == 0 for node in nodes if not node.operands):
            yield stage_of
