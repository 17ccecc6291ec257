"""Random inputs of a graph, used if the user gives no calibration data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice, product
from typing import TYPE_CHECKING

from archc.declaration.traits import HOLDS_WEIGHT, LAYOUT_ONLY
from archc.ir.graph import Graph, Node, Value
from archc.ir.scans import scan_destinations, scan_end
from archc.types.dims import SymbolicDim, as_linear, as_symbol, evaluate, symbols

if TYPE_CHECKING:
    import numpy as np
    import torch

BATCH = 8
_SIZES = (16, 32, 64, 128, 224, 512, 8, 4, 2, 1)
_MOST_TRIED = 500
_MOST_INTEGERS = 100


def in_own_dtypes(graph: Graph, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Inputs of another graph, with floats in the dtypes of this graph.

    A pass can change the dtypes of inputs.
    """
    import torch

    dtypes = {value.name or "": getattr(torch, value.type.dtype.torch) for value in graph.inputs}
    return {name: tensor.to(dtypes[name]) if tensor.is_floating_point() else tensor for name, tensor in inputs.items()}


def random_inputs(graph: Graph, seed: int = 0, batch: int = BATCH) -> dict[str, np.ndarray]:
    """Draw an array for each input: normal floats, Booleans, and integers that consumers accept.

    Symbolic sizes get values for which no tensor of the graph is empty and every operator has enough elements (k for
    `topk`).  The size of an input's first axis is `batch`; any other size is the first suitable candidate.

    Args:
        seed: seed of the random generator.
        batch: size of symbolic first axes.
    """
    import numpy as np

    sizes = sample_sizes(graph, batch)
    generator = np.random.default_rng(seed)
    arrays = {}
    for value in graph.inputs:
        shape = tuple(evaluate(dim, sizes=sizes) for dim in value.type.shape)
        dtype = value.type.dtype
        if dtype.floating:
            array = np.asarray(generator.standard_normal(shape, np.float32))
            arrays[value.name or ""] = array if dtype.value in ("f32", "bf16") else array.astype(dtype.torch)
        elif dtype.integral:
            accepted = accepted_integers(graph, value, sizes) or range(_MOST_INTEGERS)
            array = np.asarray(generator.integers(accepted.start, accepted.stop, shape))
            arrays[value.name or ""] = array.astype(dtype.torch)
        else:
            arrays[value.name or ""] = np.asarray(generator.random(shape) < 0.5)
    return arrays


def sample_sizes(graph: Graph, batch: int = BATCH, known: Mapping[str, int] | None = None) -> dict[str, int]:
    """Choose values for the symbolic sizes of a graph's inputs; see `random_inputs`.

    Args:
        known: the values of sizes that are given; other sizes are chosen.
    """
    leading = {s.name for value in graph.inputs if value.type.shape and (s := as_symbol(value.type.shape[0]))}
    bounds = {}
    for value in graph.inputs:
        for dim in value.type.shape:
            bounds.update(symbols(dim))
    needed = size_minimums(graph)
    least = symbol_minimums(graph)

    def chosen(sizes: Mapping[str, int]) -> dict[str, int]:
        found = {}
        for name, symbol in bounds.items():
            wanted = max(sizes[name], least.get(name, 0))
            found[name] = wanted if symbol.maximum is None else min(wanted, symbol.maximum)
        return found | dict(known or {})

    for tried in islice(_candidates(bounds, leading, batch), _MOST_TRIED):
        sizes = chosen(tried)
        if all(evaluate(dim, sizes=sizes) >= fewest for dim, fewest in needed):
            return sizes
    return chosen({name: batch if name in leading else max(_SIZES) for name in bounds})


def _candidates(names: Iterable[str], leading: Collection[str], batch: int) -> Iterator[dict[str, int]]:
    """Yield candidate sizes: one size for all symbols but those of first axes, then all combinations."""
    names = list(names)
    for size in _SIZES:
        yield {name: batch if name in leading else size for name in names}
    for sizes in product(*((batch, *_SIZES) if name in leading else _SIZES for name in names)):
        yield dict(zip(names, sizes))


def size_minimums(graph: Graph) -> list[tuple[SymbolicDim, int]]:
    """Return symbolic sizes in a graph, each with the smallest value with which the graph can run."""
    dims = {dim for node in graph.nodes() for value in node.results for dim in value.type.shape}
    return [*((dim, 1) for dim in dims if not isinstance(dim, int)), *_needed(graph)]


def symbol_minimums(graph: Graph) -> dict[str, int]:
    """Return the smallest value of each symbol with which every operator has enough elements.

    For example, `topk(5)` along an axis of size `2*T` requires that T is at least 3.
    """
    least: dict[str, int] = {}
    for dim, fewest in _needed(graph):
        linear = as_linear(dim)  # None for a size such as `N*T`, which determines no minimum of N or T alone
        if linear is not None and linear[1] > 0:
            symbol, scale, offset = linear
            least[symbol.name] = max(least.get(symbol.name, 0), -((offset - fewest) // scale))
    return least


def _needed(graph: Graph) -> list[tuple[SymbolicDim, int]]:
    """Return the symbolic sizes for which operators declare a minimum, each with its minimum."""
    wanted = (pair for node in graph.nodes() for pair in node.op.minimum_sizes(node.types))
    return [(dim, fewest) for dim, fewest in wanted if not isinstance(dim, int)]


def accepted_integers(graph: Graph, value: Value, sizes: Mapping[str, int]) -> range | None:
    """Return the integers that are valid elements of an input, or None if all integers are valid.

    Operators such as `embedding` limit their indices.  The limits are traced back to the input through operators that
    move elements, and through sums and products with known integers.  For example, if a model adds 2000 to
    the elements of an input and looks them up in a table of 3000 rows, the elements must be below 1000.

    Args:
        sizes: values of all symbolic sizes; the limits of indices may depend on them.
    """
    accepted: range | None = None
    # Each value, with the arithmetic nodes between the input and the value, and the operand position in each node.
    stack: list[tuple[Value, tuple[tuple[Node, int], ...]]] = [(value, ())]
    seen = {value}
    while stack:
        current, computed = stack.pop()
        uses = [
            (node, position)
            for node in graph.consumers(current)
            for position, operand in enumerate(node.operands)
            if operand is current
        ]
        for node, position in uses:
            limits = node.op.operand_range(node.types, position)
            if limits is not None:
                found: range | None = range(limits[0], evaluate(limits[1], sizes=sizes))
                for step, place in reversed(computed):
                    found = found and _before(graph, step, place, found, sizes)
                if found is not None:
                    accepted = found if accepted is None else _common(accepted, found)
                continue
            reached = [(result, computed) for result in _moved(node, position)]
            if not reached and node.results[0].type.dtype.integral:
                reached = [(result, (*computed, (node, position))) for result in node.results]
            stack += [one for one in reached if one[0] not in seen]
            seen.update(result for result, _ in reached)
    return accepted


def _before(graph: Graph, node: Node, position: int, wanted: range, sizes: Mapping[str, int]) -> range | None:
    """Return the range of an operand that keeps a node's result in a wanted range, or None if unknown."""
    operands = [_known(graph, operand, sizes) for operand in node.operands]
    return node.op.operand_integers(position, operands, wanted, lambda dim: evaluate(dim, sizes=sizes))


def _known(graph: Graph, value: Value, sizes: Mapping[str, int]) -> range | None:
    """Return a range that contains all elements of a tensor and does not depend on the inputs, or None."""
    node = value.producer
    if node is None or not value.type.dtype.integral:
        return None
    if node.op.has(HOLDS_WEIGHT):
        (path,) = node.weights.values()
        numbers = graph.weight_values(path)
        return range(int(numbers.min()), int(numbers.max()) + 1) if numbers.size else None
    operands = [_known(graph, operand, sizes) for operand in node.operands]
    if node.op.has(LAYOUT_ONLY):
        found = [numbers for numbers in operands if numbers is not None]
        whole = len(found) == len(operands) > 0
        return range(min(one.start for one in found), max(one.stop for one in found)) if whole else None
    return node.op.result_integers(operands, lambda dim: evaluate(dim, sizes=sizes))


def _moved(node: Node, position: int) -> Sequence[Value]:
    """Return the values into which a node or a scan moves the elements of an operand unchanged."""
    if scan_end(node.op):
        return scan_destinations(node, position)
    return node.results if node.op.has(LAYOUT_ONLY) else ()


def _common(one: range, other: range) -> range:
    return range(max(one.start, other.start), min(one.stop, other.stop))
