"""Binding of weights: no values are read, and fresh weights depend only on the seed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import archc
from archc.analysis.cost import cost
from archc.diagnostics import ArchcError, Diagnostics
from archc.driver.binding import bind_fresh, bind_given
from archc.ir.verifier import verify
from archc.weights.safetensors import write
from archc.weights.tensor import ArrayTensor, LazyTensor, Weights

TEXT = (
    "model m { input x: f32[N, 8]  output y = x -> fc1: linear(6) -> relu -> fc2: linear(4, weight = int8(axis = 0)) }"
)


class Unreadable(LazyTensor):
    """A tensor that must not be read."""

    def __init__(self, shape: tuple[int, ...], dtype: str):
        self.shape, self.dtype = shape, dtype

    def numpy(self) -> Any:
        raise AssertionError("this tensor was read")

    def chunks(self) -> Iterator[Any]:
        raise AssertionError("this tensor was read")


def values(graph: archc.Graph) -> dict[str, np.ndarray]:
    assert graph.tensors is not None
    return {path: graph.tensors[path].numpy() for path in graph.tensors}


def fresh(seed: int) -> archc.Graph:
    graph = archc.parse(TEXT)
    bind_fresh(graph, seed)
    return graph


def test_the_seed_makes_the_weights() -> None:
    one, again, other = (values(fresh(seed)) for seed in (3, 3, 4))
    assert list(one) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.weight_scale", "fc2.bias"]
    assert all((one[path] == again[path]).all() for path in one)
    assert not any((one[path] == other[path]).all() for path in one)


def test_fresh_weights_have_the_distribution_of_pytorch() -> None:
    found, reference = values(fresh(0)), torch.nn.Linear(8, 6)
    bound = 1 / np.sqrt(8)
    for path, tensor in (("fc1.weight", reference.weight), ("fc1.bias", reference.bias)):
        assert found[path].shape == tuple(tensor.shape) and np.abs(found[path]).max() <= bound
    assert np.abs(found["fc1.weight"]).max() > bound / 2


def test_integer_weights_are_the_encoded_fresh_ones() -> None:
    dense = archc.parse(TEXT.replace(", weight = int8(axis = 0)", ""))
    bind_fresh(dense, 3)
    error = np.abs(fresh(3).weight_values("fc2.weight") - dense.weight_values("fc2.weight"))
    assert 0 < error.max() <= values(fresh(3))["fc2.weight_scale"].max() / 2 * 1.001


def test_nothing_is_read_before_it_is_needed() -> None:
    graph = fresh(0)
    assert graph.tensors is not None
    graph.tensors = Weights({path: Unreadable(t.shape, t.dtype) for path, t in graph.tensors.items()})
    assert archc.parse(archc.print_graph(graph)) == graph
    assert cost(graph).parameters == 8 * 6 + 6 + 6 * 4 + 4
    verify(graph)
    with pytest.raises(AssertionError, match="this tensor was read"):
        graph.weight_values("fc1.weight")


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    given = values(fresh(9))
    write(path, {name: ArrayTensor(array) for name, array in given.items()})
    graph = archc.parse(TEXT)
    bind_given(graph, path, 0, Diagnostics())
    assert all((array == given[name]).all() for name, array in values(graph).items())
    write(path, {name: ArrayTensor(array) for name, array in given.items() if name != "fc1.bias"})
    with pytest.raises(ArchcError) as failure:
        bind_given(archc.parse(TEXT), path, 0, Diagnostics())
    assert [found.code for found in failure.value.diagnostics] == ["weights-missing"]


def test_floats_for_a_text_that_quant_wrote_are_refused_once(tmp_path: Path) -> None:
    text = "model m { input x: f32[N, 8]  output y = x -> a: linear(8, weight = {0}) -> b: linear(4, weight = {0}) }"
    floats, integers = (text.replace("{0}", storage) for storage in ("dense", "int8(axis = 0)"))
    tensors = archc.compile(floats).graph.tensors
    assert tensors is not None
    write(tmp_path / "floats.safetensors", tensors)
    with pytest.raises(ArchcError) as caught:
        archc.compile(integers, weights=tmp_path / "floats.safetensors")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "weights-not-quantized"
    assert "compile the unquantized text" in (diagnostic.help or "")
