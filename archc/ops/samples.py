"""Inputs to try a graph on: seeded random ones, where nobody gives real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from archc.ir.dims import SymbolicDim, as_symbol, evaluate, symbols
from archc.ir.graph import Graph, Node, Value
from archc.ir.scans import handed_on

if TYPE_CHECKING:
    import numpy as np

BATCH = 8
_SIZES = (16, 32, 64, 128, 224, 512)
_MOST_INTEGERS = 100
_MOVING = ("rearrange", "reshape", "index", "combine", "placement")
"""The families whose results hold elements of their operands."""


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
            accepted = accepted_integers(graph, value, sizes) or range(_MOST_INTEGERS)
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


def accepted_integers(graph: Graph, value: Value, sizes: Mapping[str, int]) -> range | None:
    """The integers that everything accepts to which an input's elements come unchanged; None where all will do.

    They come unchanged through what only moves elements.

    Args:
        sizes: the value of every symbolic size: how many places an axis has is what limits an index.
    """
    accepted: range | None = None
    seen, stack = {value}, [value]
    while stack:
        current = stack.pop()
        for node in graph.consumers(current):
            positions = [position for position, operand in enumerate(node.operands) if operand is current]
            own = [node.op.operand_range(node.types, position) for position in positions]
            for limits in own:
                if limits is not None:
                    low, high = limits[0], evaluate(limits[1], sizes=sizes)
                    accepted = range(low, high) if accepted is None else _common(accepted, range(low, high))
            for position in (position for position, limits in zip(positions, own) if limits is None):
                moved = [value for value in _moved(node, position) if value not in seen]
                seen.update(moved)
                stack += moved
    return accepted


def _moved(node: Node, position: int) -> Sequence[Value]:
    """The values that hold elements of an operand of a node as they are."""
    if node.op.scan_end:
        return handed_on(node, position)
    return node.results if node.op.family in _MOVING else ()


def _common(one: range, other: range) -> range:
    return range(max(one.start, other.start), min(one.stop, other.stop))
