"""Inputs to try a graph on: seeded random ones, where nobody gives real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archc.ir.dims import SymbolicDim, as_symbol, evaluate, symbols
from archc.ir.graph import Graph, Value

if TYPE_CHECKING:
    import numpy as np

BATCH = 8
_SIZES = (16, 32, 64, 128, 224, 512)
_MOST_INTEGERS = 100
_MOVING = ("rearrange", "reshape", "index", "combine")  # families whose results hold elements of their operands


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
            accepted = accepted_integers(graph, value) or range(_MOST_INTEGERS)
            arrays[value.name or ""] = generator.integers(accepted.start, accepted.stop, shape).astype(dtype.torch)
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


def accepted_integers(graph: Graph, value: Value) -> range | None:
    """The integers that everything accepts to which an input's elements come unchanged; None where all will do.

    They come unchanged through what only moves elements.
    """
    accepted: range | None = None
    seen, stack = {value}, [value]
    while stack:
        current = stack.pop()
        for node in graph.consumers(current):
            for position, operand in enumerate(node.operands):
                own = node.op.operand_range(position) if operand is current else None
                if own is not None:
                    low, high = own if accepted is None else (accepted.start, accepted.stop)
                    accepted = range(max(low, own[0]), min(high, own[1]))
            if node.op.family in _MOVING:
                moved = [result for result in node.results if result not in seen]
                seen.update(moved)
                stack += moved
    return accepted
