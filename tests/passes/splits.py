"""Brute force over all splits of a small graph into stages, as a reference for `partition`."""

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
    """Return the least bottleneck of all splits; infinity if no split fits the memory.

    The bottleneck of a split is the largest load of a stage.
    """
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
                loads[-1] += time  # the last stage sends the output
            for stage in range(made + 1, max(users, default=made) + 1):
                loads[stage] += time  # the stage receives the value
                if stage:
                    loads[stage - 1] += time  # the previous stage sends the value
        if max(held) <= memory:
            best = min(best, max(loads))
    return best


def _splits(graph: Graph, nodes: list[Node], count: int) -> Iterator[dict[Node, int]]:
    """Yield all assignments of nodes to stages in which no stage is empty and no tensor goes back."""
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
