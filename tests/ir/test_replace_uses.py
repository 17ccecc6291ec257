"""Replacement of a value in some of its consumers; names of block inputs are kept."""

from __future__ import annotations

import archc
from archc.ir.rewriter import Rewriter
from archc.ir.verifier import verify
from archc.ops.create import Identity

TEXT = """
block B {
    input value
    output value -> fc: linear(4) -> relu
}
model m {
    input x: f32[N, 4]
    output (x -> first: B) + (x -> second: B)
}
"""


def test_other_consumers_do_not_change() -> None:
    graph = archc.parse(TEXT)
    (x,) = graph.inputs
    one, other = graph.consumers(x)
    rewriter = Rewriter(graph)
    copy = rewriter.add(Identity(), [x]).result
    rewriter.replace_uses(x, copy, [other])
    assert (one.operands, other.operands) == ((x,), (copy,))
    assert graph.consumers(copy) == [other]
    assert set(graph.consumers(x)) == {one, copy.producer}
    verify(graph)


def test_the_new_value_has_the_old_name_in_a_block() -> None:
    graph = archc.parse(TEXT)
    (x,) = graph.inputs
    _, other = graph.consumers(x)
    rewriter = Rewriter(graph)
    copy = rewriter.add(Identity(), [x]).result
    rewriter.replace_uses(x, copy, [other])
    assert other.scope.names[copy] == "value" and other.scope.inputs == [copy]
    printed = archc.print_graph(graph)
    assert "input value" in printed and printed.count("block") == 1
    assert archc.parse(printed) == graph


def test_a_value_used_twice_by_one_node_changes_in_both_places() -> None:
    graph = archc.parse("model m {\n    input x: f32[N, 4]\n    output x + x\n}\n")
    (x,) = graph.inputs
    (add,) = graph.nodes()
    rewriter = Rewriter(graph)
    copy = rewriter.add(Identity(), [x]).result
    rewriter.replace_uses(x, copy, [add])
    assert add.operands == (copy, copy)
