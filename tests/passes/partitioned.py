"""Transformer and helpers for tests of `partition`: remarks, diagnostics and nodes that enter a stage."""

from __future__ import annotations

import pytest

import archc
from archc.diagnostics import ArchcError
from archc.driver.compiled import Compiled
from archc.ir.graph import Graph, Node
from archc.ir.stages import entered_stage

GPT = """
import "std/attention.arch" as att
block Block(heads) {
    input x: f32[B, T, D]
    x = x + (x -> ln1: layer_norm -> attn: att.SelfAttention(heads, causal = true))
    output x + (x -> ln2: layer_norm -> up: linear(4 * D) -> gelu -> down: linear(D))
}
model gpt(vocab = 64, width = 32, depth = 3, context = 32) {
    input tokens: i64[B, T <= context]
    layer wte = embedding(vocab, width)
    x = (tokens -> wte) + (arange(T) -> wpe: embedding(context, width))
    for i in 0..depth { x = x -> h[i]: Block(4) }
    output logits = x -> ln_f: layer_norm -> head: linear(vocab, bias = false, weight = wte.weight)
}
"""


def entries(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes() if entered_stage(node.op) is not None]


def figures(compiled: Compiled) -> dict[str, float]:
    """Return the figures of the remark on the whole split, such as the bottleneck."""
    remarks = [one for one in compiled.passes[-1].remarks if "bottleneck" in one.figures]
    assert len(remarks) == 1
    return {name: float(value) for name, value in remarks[0].figures.items()}


def notes(compiled: Compiled) -> list[str]:
    return [remark.message for remark in compiled.passes[-1].remarks if remark.kind == "note"]


def refused(text: str, passes: str) -> archc.diagnostics.Diagnostic:
    with pytest.raises(ArchcError) as caught:
        archc.compile(text, passes=passes)
    (found,) = caught.value.diagnostics
    return found
