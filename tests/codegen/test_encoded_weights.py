"""Weights of the specs in random storage formats: programs agree with the interpreter.

The emitted text and weights are the same model again.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import archc
from archc.driver.binding import bind_fresh
from archc.ir.graph import Graph
from archc.ir.rewriter import Rewriter
from tests.specs.siblings import SIBLINGS, SPECS
from tests.storages import random_storage

FIRST = ("deepfm", "elman", "llama", "tagger", "text_classifier", "translator", "two_tower", "vgg16", "vit")
"""Specs that together have all kinds of layers; the others are slow."""
STORED = [spec if spec in FIRST else pytest.param(spec, marks=pytest.mark.slow) for spec in sorted(SIBLINGS)]


def encoded(spec: str) -> Graph:
    """The graph of a small spec, with a random storage for each weight.

    Weights of layers that PyTorch updates in training stay dense.
    """
    graph = archc.parse(SPECS / f"{spec}.arch", set=SIBLINGS[spec])
    bind_fresh(graph, 0)
    rewriter, chance = Rewriter(graph), random.Random(spec)
    updated = {
        path
        for node in graph.nodes()
        if not all(node.op.parameters[name].trainable for name in node.weights)
        for path in node.weights.values()
    }
    for path, weight in list(graph.weights.items()):
        if path not in updated:
            rewriter.set_storage(path, random_storage(chance, weight.shape, weight.dtype))
    return graph


@pytest.mark.parametrize("spec", STORED)
def test_programs_of_encoded_weights_agree_with_the_interpreter(spec: str, tmp_path: Path) -> None:
    graph = encoded(spec)
    text = archc.print_graph(graph)
    assert archc.parse(text) == graph
    compiled = archc.compile(text, weights={path: tensor.numpy() for path, tensor in graph.stored_tensors().items()})
    report = compiled.write(tmp_path / "first", check=True)
    assert set(report["check"]["errors"]) == {"torch", "onnxruntime"}

    # The emitted text and weights are the same model.
    folder, name = tmp_path / "first", compiled.name
    again = archc.compile(folder / f"{name}.arch", weights=folder / f"{name}.safetensors")
    again.write(tmp_path / "again", check=False)
    for end in (".arch", ".safetensors"):
        first, second = ((tmp_path / each / f"{name}{end}").read_bytes() for each in ("first", "again"))
        assert first == second
