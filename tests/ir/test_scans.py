"""Scans: nodes in the body of a scan, and the number of their executions."""

from __future__ import annotations

import pytest

import archc
from archc.analysis.cost import NodeCosts, cost
from archc.ir.graph import Graph, Node
from archc.ir.rewriter import Rewriter
from archc.ir.scans import Scan, repetition_counts, scan_destinations, schedule
from archc.ir.verifier import InvalidGraph, verify
from archc.ops.activation import Tanh
from archc.ops.scan import ScanEnter, ScanExit
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from tests.codegen.scan_cases import ELMAN, TEXTS


def scans(graph: Graph) -> list[Scan]:
    return [item for item in schedule(graph) if isinstance(item, Scan)]


def title(item: Node | Scan) -> str:
    return "scan" if isinstance(item, Scan) else item.path or item.op.name


def test_nodes_between_the_step_and_its_end_are_the_body() -> None:
    (scan,) = scans(archc.parse(ELMAN))
    assert [title(item) for item in scan.body] == ["w_xh", "w_hh", "add", "tanh", "w_hy"]
    assert [value.name for value in scan.sequences] == ["x"]
    assert [value.producer.op.name for value in scan.first_states if value.producer] == ["zeros"]
    assert [value.producer.op.name for value in scan.next_states if value.producer] == ["tanh"]
    assert [value.producer.path for value in scan.kept if value.producer] == ["w_hy"]


def test_nodes_independent_of_the_step_run_once_before_it() -> None:
    items = schedule(archc.parse(TEXTS["values from outside"]))
    assert [title(item) for item in items] == ["tanh", "zeros", "fc", "relu", "exp", "scan"]
    (scan,) = (item for item in items if isinstance(item, Scan))
    assert [title(item) for item in scan.body] == ["mul", "add", "add", "add"]


def test_an_inner_scan_is_one_item_of_the_body() -> None:
    (outer,) = scans(archc.parse(TEXTS["a scan in a scan"]))
    assert [title(item) for item in outer.body] == ["scan", "mul", "mean"]
    (inner,) = (item for item in outer.body if isinstance(item, Scan))
    assert set(inner.nodes) < set(outer.nodes)


def test_repetition_counts_multiply_in_nested_scans() -> None:
    graph = archc.parse(TEXTS["a scan in a scan"])
    times = {title(node): extent for node, extent in repetition_counts(graph).items()}
    t, s = symbol("T"), symbol("S")
    assert times["mul"] == times["mean"] == t
    assert times["w"] == times["tanh"] == t * s


def test_the_cost_of_a_scan_is_that_of_a_recurrent_layer() -> None:
    """The MACs of an Elman network written as a scan equal those of `rnn` and a linear layer."""
    layers = archc.parse("model m { input x: f32[B, T, 4]  output y = x -> rnn(6) -> linear(3) }")
    for sizes in ({}, {"B": 3}, {"B": 3, "T": 7}):
        found = cost(archc.parse(ELMAN), sizes).multiply_adds
        assert found == cost(layers, sizes).multiply_adds
        assert found == sizes.get("B", 1) * sizes.get("T", 1) * (6 * 4 + 6 * 6 + 3 * 6)


def test_stacked_sequences_count_once() -> None:
    graph = archc.parse(ELMAN)
    costs = NodeCosts(graph, {"B": 2, "T": 5})
    (scan,) = scans(graph)
    assert costs.activations(scan.exit) == 4 * (2 * 6 + 2 * 5 * 3)
    (head,) = (node for node in graph.nodes() if node.path == "w_hy")
    assert costs.activations(head) == 5 * 4 * 2 * 3


def test_destinations_of_the_operands_of_a_scan() -> None:
    graph = archc.parse(TEXTS["several sequences and states"])
    (scan,) = scans(graph)
    names = [value.name for value in scan.enter.results[1:]]
    assert names == ["x_t", "z_t", "i", "h", "s"]
    for position, value in enumerate(scan.enter.results[1:]):
        assert scan_destinations(scan.enter, position) == [value]
    last = {value.name: value for value in scan.exit.results}
    assert scan_destinations(scan.exit, 0) == scan_destinations(scan.exit, 1) == scan_destinations(scan.exit, 3) == []
    assert scan_destinations(scan.exit, 2) == [scan.enter.results[4], last["h"]]
    assert scan_destinations(scan.exit, 4) == [scan.enter.results[5], last["s"]]
    assert scan_destinations(scan.exit, 5) == [last["a"]]


class Broken:
    """Builder of graphs with an invalid scan."""

    def __init__(self) -> None:
        self.graph = Graph("m")
        self.rewriter = Rewriter(self.graph)
        x = self.rewriter.input("x", TensorType(DType.f32, (symbol("B"), symbol("T"), 4)))
        self.enter = self.rewriter.add(ScanEnter(1), [x])
        self.step = self.rewriter.add(Tanh(), [self.enter.results[1]])

    def end(self) -> Node:
        return self.rewriter.add(ScanExit(0, symbol("T")), [self.enter.results[0], self.step.result])


def test_a_value_of_a_step_cannot_be_used_outside() -> None:
    broken = Broken()
    broken.rewriter.output("y", broken.end().results[0])
    verify(broken.graph)
    broken.rewriter.output("leak", broken.rewriter.add(Tanh(), [broken.step.result]).result)
    with pytest.raises(InvalidGraph, match="uses a value of a step of scan from outside"):
        verify(broken.graph)


def test_a_value_of_a_step_cannot_be_an_output() -> None:
    broken = Broken()
    broken.rewriter.output("y", broken.end().results[0])
    broken.rewriter.output("leak", broken.step.result)
    with pytest.raises(InvalidGraph, match="from outside"):
        verify(broken.graph)


def test_steps_must_end() -> None:
    broken = Broken()
    broken.rewriter.output("y", broken.step.result)
    with pytest.raises(InvalidGraph, match="begins a scan without an end"):
        verify(broken.graph)


def test_steps_must_begin() -> None:
    graph = Graph("m")
    rewriter = Rewriter(graph)
    mark = rewriter.input("mark", TensorType(DType.i64, ()))
    x = rewriter.input("x", TensorType(DType.f32, (symbol("B"), 4)))
    rewriter.output("y", rewriter.add(ScanExit(0, symbol("T")), [mark, x]).result)
    with pytest.raises(InvalidGraph, match="ends a scan without a beginning"):
        verify(graph)
