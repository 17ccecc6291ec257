"""Inputs to try a graph on: seeded random ones, where nobody gives real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archc.ir.dims import SymbolicDim, as_symbol, evaluate, symbols
from archc.ir.graph import Graph, Value

if TYPE_CHECKING:
    import numpy as np

BATCH = 8
_SIZES = (16, 32, 64, 128, 224, 512)


def random_inputs(graph: Graph, seed: int = 0, batch: int = BATCH) -> dict[str, np.ndarray]:
    """One array for each input: normally distributed floats, integers within what their consumers look up.

    Symbolic sizes get a value that keeps every tensor of the graph at least one element long: `batch` for those
    that are the first axis of an input, else the first of a few that fits.
    """
    import numpy as np

    sizes = sample_sizes(graph, batch)
    generator = np.random.default_rng(seed)
    arrays = {}
    for value in graph.inputs:
        shape = tuple(evaluate(dim, sizes=sizes) for dim in value.type.shape)
        dtype = value.type.dtype
        if dtype.floating:
            array = generator.standard_normal(shape, np.float32)
            arrays[value.name or ""] = array if dtype.value in ("f32", "bf16") else array.astype(dtype.torch)
        elif dtype.integral:
            low, high = _range(graph, value)
            arrays[value.name or ""] = generator.integers(low, high, shape).astype(dtype.torch)
        else:
            arrays[value.name or ""] = generator.random(shape) < 0.5
    return arrays


def sample_sizes(graph: Graph, batch: int = BATCH) -> dict[str, int]:
    """A value for every symbolic size of the inputs; see `random_inputs`."""
    leading = {s.name for value in graph.inputs if value.type.shape and (s := as_symbol(value.type.shape[0]))}
    bounds = {}
    for value in graph.inputs:
        for dim in value.type.shape:
            bounds.update(symbols(dim))
    dims: set[SymbolicDim] = {
        dim for node in graph.nodes() for value in node.results for dim in value.type.shape if not isinstance(dim, int)
    }
    for size in _SIZES:
        sizes = {}
        for name, symbol in bounds.items():
            wanted = batch if name in leading else size
            sizes[name] = wanted if symbol.maximum is None else min(wanted, symbol.maximum)
        if all(evaluate(dim, sizes=sizes) > 0 for dim in dims):
            break
    return sizes


def _range(graph: Graph, value: Value) -> tuple[int, int]:
    """The integers that every consumer of an input accepts."""
    low, high = 0, 100
    for node in graph.consumers(value):
        for position, operand in enumerate(node.operands):
            accepted = node.op.operand_range(position) if operand is value else None
            if accepted is not None:
                low, high = max(low, accepted[0]), min(high, accepted[1])
    return low, high
