"""Costs of graphs, compared with counts by hand."""

from __future__ import annotations

import torch

import archc
from archc.analysis.cost import activation_bytes, cost, multiply_adds
from archc.declaration import OPERATORS

TEXT = """
model m {
    input image: f32[N, 3, 8, 8]
    x = image -> conv: conv2d(16, 3, padding = 1) -> bn: batch_norm -> relu -> flatten
    layer fc = linear(1024)
    output y = x -> fc -> fc
}
"""


def test_a_network() -> None:
    graph = archc.parse(TEXT)
    reference = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.BatchNorm2d(16), torch.nn.Linear(1024, 1024))
    found = cost(graph)
    assert found.nodes == 6
    assert found.parameters == sum(parameter.numel() for parameter in reference.parameters())
    assert found.bytes == sum(tensor.nbytes for tensor in reference.state_dict().values())
    conv, linear = 16 * 3 * 3 * 3 * 8 * 8, 1024 * 1024
    assert found.multiply_adds == conv + 2 * linear
    assert cost(graph, {"N": 5}).multiply_adds == 5 * found.multiply_adds
    assert found.to_json() == {
        "nodes": 6,
        "parameters": found.parameters,
        "bytes": found.bytes,
        "multiply_adds": found.multiply_adds,
    }


def test_activations_include_all_results() -> None:
    graph = archc.parse("model m { input x: f16[N, 6]  a, b = x -> split(3, dim = 1)  output (a, b) }")
    (node,) = graph.nodes()
    assert isinstance(node.op, OPERATORS["split"])
    assert activation_bytes(node) == 2 * 6 and activation_bytes(node, {"N": 7}) == 2 * 6 * 7
    assert multiply_adds(node) == 0


def test_integer_storage_is_counted_as_stored() -> None:
    graph = archc.parse("model m { input x: f32[N, 8]  output y = x -> fc: linear(4, weight = int8(axis = 0)) }")
    assert cost(graph).bytes == 4 * 8 + 4 * 4 + 4 * 4
    assert cost(graph).parameters == 4 * 8 + 4
