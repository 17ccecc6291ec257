"""Small models with stages: skip connections, tied weights and blocks that span several stages."""

from __future__ import annotations

from pathlib import Path

import archc
from archc.driver.compiled import Compiled
from archc.ir.graph import Graph, Value
from archc.ir.rewriter import Rewriter
from archc.ops.stage import ToStage

SPECS = Path(__file__).parents[3] / "specs"

TIED = """
block Mix {
    input x: f32[B, T, D]
    output x + (x -> ln: layer_norm -> up: linear(2 * D) -> gelu -> down: linear(D))
}

# A head that shares its weight with the embedding, two stages away.
model tied(vocab = 24, width = 16) {
    input tokens: i64[B, T]
    layer wte = embedding(vocab, width)

    early = tokens -> wte
    x = early -> h[0]: Mix -> rearrange("b t d -> b d t") -> to_stage(1) -> rearrange("b d t -> b t d")
    x = x -> h[1]: Mix -> h[2]: Mix
    x = (x -> to_stage(2)) + (early -> to_stage(2)) + (tokens -> to_stage(2) -> again: embedding(vocab, width))

    output logits = x -> h[3]: Mix -> head: linear(vocab, bias = false, weight = wte.weight)
}
"""


def tied() -> Compiled:
    """Return a model of three stages, whose first and last stage share a weight.

    Stage 1 relays a floating-point and an integer tensor from stage 0 to stage 2.
    """
    return archc.compile(TIED)


def resnet18(*cuts: str) -> Compiled:
    """Return a narrow ResNet-18 whose later stages begin with these layers."""
    return _cut(archc.compile(SPECS / "resnet18.arch", values={"classes": 10, "width": 8}), cuts)


def mlp(*cuts: str) -> Compiled:
    """Return a small perceptron whose later stages begin with these layers."""
    values = {"features": 20, "width": 32, "depth": 3, "classes": 5}
    return _cut(archc.compile(SPECS / "mlp.arch", values=values), cuts)


def _cut(compiled: Compiled, cuts: tuple[str, ...]) -> Compiled:
    divide(compiled.graph, *cuts)
    return compiled


def divide(graph: Graph, *cuts: str) -> None:
    """Begin a new stage with each of these layers, given in the order of the graph."""
    stages: dict[Value, int] = dict.fromkeys(graph.inputs, 0)
    rewriter = Rewriter(graph, by="divide")
    stage = 0
    for node in graph.nodes():
        if stage < len(cuts) and node.path == cuts[stage]:
            stage += 1
        stages |= dict.fromkeys(node.results, stage)
        operands = [
            value
            if stages[value] == stage
            else rewriter.add(ToStage(stage), [value], scope=node.scope, near=node).result
            for value in node.operands
        ]
        rewriter.set_operands(node, operands)
    assert stage == len(cuts), "a cut is before a layer, and the cuts are in order"
