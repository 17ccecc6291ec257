"""Measurements that are kept for later passes on equal graphs."""

from __future__ import annotations

import archc
from archc.ir.copying import copied
from archc.ir.graph import Graph, Node
from archc.ir.rewriter import Rewriter
from archc.passmanager.findings import MOST_GRAPHS, Findings


def graph() -> Graph:
    return archc.compile("model m { input x: f32[N, 4]  output y = x -> a: linear(4) -> b: linear(2) }").graph


def changed(given: Graph, by: float) -> Graph:
    other = copied(given)
    Rewriter(other, by="test").set_weight("a.bias", other.weight_values("a.bias") + by)
    return other


def test_equal_graphs_are_measured_once_and_others_anew() -> None:
    findings, one, made = Findings(), graph(), list[str]()

    def ask(given: Graph, question: str) -> int:
        def measure() -> int:
            made.append(question)
            return len(made)

        return findings.of(given, question, measure)

    assert ask(one, "p") == ask(copied(one), "p") == 1
    assert ask(one, "q") == 2
    assert ask(changed(one, 1.0), "p") == 3
    for number in range(MOST_GRAPHS):
        ask(changed(one, number), "p")
    count = len(made)
    assert ask(one, "p") == 1, "the first graph stays"
    assert ask(changed(one, 1.0), "p") == count + 1


def test_results_of_nodes_belong_to_the_nodes_of_the_asking_graph() -> None:
    findings, one = Findings(), graph()
    other = copied(one)

    def ask(given: Graph, nodes: list[Node]) -> dict[Node, str]:
        return findings.of_nodes(given, "title", nodes, lambda: {node: node.title + " measured" for node in nodes})

    first = ask(one, [*one.nodes()])
    again = ask(other, [*other.nodes()])
    assert {node.title: text for node, text in again.items()} == {"a": "a measured", "b": "b measured"}
    assert set(again) == {*other.nodes()} and not set(first) & set(again)
    (b,) = (node for node in other.nodes() if node.title == "b")
    assert ask(other, [b]) == {b: "b measured"}


def test_nothing_is_kept_by_default() -> None:
    findings, one, made = Findings(keep=False), graph(), list[int]()
    for _ in range(2):
        findings.of(one, "p", lambda: made.append(1))
    assert len(made) == 2
