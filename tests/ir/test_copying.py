"""Copies of graphs have the same meaning and text, and are independent of the original."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import archc
from archc.codegen.target import ModelToEmit
from archc.ir.copying import copied
from archc.ir.graph import Graph
from archc.ir.verifier import verify
from archc.targets.registry import default_targets

SPECS = Path(__file__).parents[2] / "specs"
TEXT = """
block Pair(width) {
    input x: f32[N, D]
    output x -> a: linear(width) -> relu -> b: linear(D)
}
model net {
    input x: f32[N, 8]
    output y = x -> h[0]: Pair(16) -> h[1]: Pair(16) -> fc: linear(4)
}
"""


def texts(graph: Graph) -> list[str]:
    """The .arch text and the PyTorch module, which show blocks, loops, scans and the names of values."""
    targets = default_targets(with_weights=False)
    return [target.text(ModelToEmit(graph, "source")) for target in targets if target.text is not None]


@pytest.mark.parametrize("spec", ["cnn", "gpt2", "speaker_encoder", "elman"])
def test_a_copy_has_the_same_texts(spec: str) -> None:
    graph = archc.compile(SPECS / f"{spec}.arch", weights="none").graph
    copy = copied(graph)
    verify(copy)
    assert copy == graph
    assert texts(copy) == texts(graph)
    assert not {id(node) for node in copy.nodes()} & {id(node) for node in graph.nodes()}
    assert not {id(node.scope) for node in copy.nodes()} & {id(node.scope) for node in graph.nodes()}


def test_passes_change_the_graph_and_not_its_copy() -> None:
    compiled = archc.compile(TEXT)
    copy, before = copied(compiled.graph), archc.compile(TEXT).graph
    rewriter = archc.ir.rewriter.Rewriter(compiled.graph)
    for node in compiled.graph.nodes():
        if node.op.name == "relu":
            rewriter.replace(node, node.operands)
    rewriter.set_weight("fc.bias", np.zeros(4, np.float32))
    assert len(compiled.graph) == 6 - 1 and copy == before != compiled.graph
    np.testing.assert_array_equal(copy.weight_values("fc.bias"), before.weight_values("fc.bias"))
