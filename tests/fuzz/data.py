"""Random data of a run: weights, symbol sizes, and inputs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

import numpy as np
import torch

from archc.driver.binding import bind_fresh
from archc.interpreter.sample_inputs import accepted_integers
from archc.ir.graph import Graph
from archc.types.dims import evaluate as number_of
from archc.types.dims import symbols
from archc.weights.dtype_conversion import numpy_dtype
from archc.weights.tensor import ArrayTensor
from tests.fuzz.tensors import torch_dtype

Inputs = dict[str, torch.Tensor]
Sizes = dict[str, int]


def bind_scaled_weights(graph: Graph, seed: int) -> None:
    """Bind fresh weights, with random noise added to weights whose elements are all equal."""
    bind_fresh(graph, seed)
    assert graph.tensors is not None
    generator = np.random.default_rng(seed)
    for weight in graph.weights.values():
        for stored, (_, dtype) in weight.tensors.items():
            array = graph.tensors[stored].numpy()
            if dtype.floating and array.size and bool((array == array.flat[0]).all()):
                array = array.astype(np.float64) + generator.uniform(0.05, 0.6, array.shape)
                graph.tensors.set(stored, ArrayTensor(array.astype(numpy_dtype(dtype.value))))


def random_sizes(graph: Graph, seed: int) -> list[Sizes]:
    """Values for the symbols of the inputs: usual sizes, sizes with a 1, sizes with a 0, and others."""
    names = symbols_of(graph)
    generator = np.random.default_rng(seed)
    usual = {name: bounded(names[name], int(generator.integers(3, 7))) for name in names}
    found = [usual]
    if names:
        one, other = (list(names)[int(generator.integers(len(names)))] for _ in range(2))
        found.append({**usual, one: 1})
        found.append({**usual, other: 0})
        found.append({name: bounded(names[name], int(generator.integers(1, 9))) for name in names})
    return [sizes for sizes in found if admits(graph, sizes)]


def large_sizes(graph: Graph) -> Sizes:
    """Values for models with windows larger than the usual sizes."""
    return {name: bounded(most, 16) for name, most in symbols_of(graph).items()}


def symbols_of(graph: Graph) -> dict[str, int | None]:
    """Symbols of the inputs with their bounds."""
    dims = chain.from_iterable(value.type.shape for value in graph.inputs)
    return {name: own.maximum for dim in dims for name, own in symbols(dim).items()}


def bounded(maximum: int | None, size: int) -> int:
    return size if maximum is None else min(size, maximum)


def admits(graph: Graph, sizes: Mapping[str, int]) -> bool:
    """Return whether all tensors have valid sizes, and all operators their minimum sizes.

    An axis may be empty only because a symbol is 0.
    """
    empty = 0 in sizes.values()
    for node in graph.nodes():
        for value in node.results:
            if any(number_of(dim, sizes=sizes) < (0 if empty else 1) for dim in value.type.shape):
                return False
        if any(number_of(dim, sizes=sizes) < least for dim, least in node.op.minimum_sizes(node.types)):
            return False
    return True


def random_inputs(graph: Graph, sizes: Mapping[str, int], seed: int) -> Inputs | None:
    """Random inputs of these sizes, with integers valid as lookup indices; None if that range is empty."""
    generator = np.random.default_rng(seed)
    found: Inputs = {}
    for value in graph.inputs:
        shape = tuple(number_of(dim, sizes=sizes) for dim in value.type.shape)
        dtype = value.type.dtype
        if dtype.floating:
            array = torch.as_tensor(generator.standard_normal(shape))
        elif dtype.integral:
            accepted = accepted_integers(graph, value, sizes) or range(100)
            if not accepted and np.prod(shape):
                return None
            array = torch.as_tensor(generator.integers(accepted.start, max(accepted.stop, accepted.start + 1), shape))
        else:
            array = torch.as_tensor(generator.random(shape) < 0.6)
        found[value.name or ""] = array.reshape(shape).to(torch_dtype(dtype))
    return found
