"""Equal names and elements of each stored tensor in all files of a compilation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file

import archc
from archc.codegen.onnx import emit
from archc.codegen.torch.load import load_model
from archc.ir.graph import Graph
from archc.weights import safetensors
from tests.specs.siblings import SPECS, sibling

PIPELINES = [
    "",
    "fold",
    "lowrank(ratio = 0.25)",
    "prune(0.5)",
    "prune(0.3, scheme = 'channel')",
    "quant(least = 0)",
    "quant(scheme = 'dynamic', least = 0)",
    "quant(scheme = 'weight')",
    "lowrank(ratio = 0.25), quant(least = 0)",
    "fold, lowrank, quant(least = 0), partition(2)",
]
QUICK = ("cnn", "elman", "gpt2", "resnet18", "tagger")
"""Specs with convolutions, scans, embeddings, norms and an `lstm`."""
NOT_IN_ONNX = ("_mask", ".num_batches_tracked")
"""Ends of the names of tensors that inference does not read: masked weights are stored as zeros."""

CASES = [
    pytest.param(path, passes, id=f"{path.stem}: {passes}", marks=() if path.stem in QUICK else pytest.mark.slow)
    for path in sorted(SPECS.glob("*.arch"))
    for passes in PIPELINES
]


def has_the_tensors_of(model: Path, weights: Path) -> None:
    """Assert that an ONNX model has each tensor that inference reads, as stored or transposed."""
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(model).graph.initializer}
    for name, array in load_file(weights).items():
        if not name.endswith(NOT_IN_ONNX):
            assert (name in stored) != (f"{name}/T" in stored)
            found = stored[name] if name in stored else stored[f"{name}/T"].T
            np.testing.assert_array_equal(found, array, err_msg=name)


def names_in(graph: Graph) -> set[str]:
    return {name for weight in graph.weights.values() for name in weight.tensors}


@pytest.mark.parametrize(("path", "passes"), CASES)
def test_a_weight_has_one_name(path: Path, passes: str, tmp_path: Path) -> None:
    compiled = archc.compile(path, passes=passes, set=sibling(path))
    compiled.write(tmp_path, check=False)
    text = archc.parse(tmp_path / f"{compiled.graph.name}.arch")
    names = names_in(compiled.graph)
    assert names_in(text) == names and names
    files = sorted(tmp_path.glob("*.safetensors"))
    assert names == set(load_file(tmp_path / f"{compiled.graph.name}.safetensors"))
    for weights in files:  # of the model, and of each stage
        assert set(load_model(weights.with_suffix(".py")).state_dict()) == set(load_file(weights)) <= names
        has_the_tensors_of(weights.with_suffix(".onnx"), weights)
    assert len(files) == (3 if "partition" in passes else 1)


@pytest.mark.parametrize("passes", ["", "quant(least = 0)", "lowrank(ratio = 0.25), quant(least = 0)"])
def test_external_data_have_the_names_of_the_weights(passes: str, tmp_path: Path) -> None:
    graph = archc.compile(SPECS / "cnn.arch", passes=passes).graph
    file = tmp_path / "cnn.safetensors"
    offsets = safetensors.write(file, graph.stored_tensors())
    emit(graph, tmp_path / "cnn.onnx", weights_file=file, offsets=offsets, large=0)
    assert (tmp_path / "cnn.onnx").stat().st_size < file.stat().st_size / 4
    has_the_tensors_of(tmp_path / "cnn.onnx", file)
