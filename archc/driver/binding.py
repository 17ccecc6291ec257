"""Binding of weights to a graph: given tensors, or new tensors with PyTorch's initial distributions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from archc.diagnostics import Diagnostics, error
from archc.ir.graph import Graph
from archc.types.storage import Dense, FakeQuantized, Masked, NarrowFloat, Sparse, Weight, unpacked_mask
from archc.weights.dtype_conversion import FLOATS
from archc.weights.input_files import quoted
from archc.weights.tensor import ComputedTensor, InitializedTensor, LazyTensor, Weights

if TYPE_CHECKING:
    import numpy as np

    from archc.weights.rename_rules import Origin


def bind_fresh(graph: Graph, seed: int) -> None:
    """Bind initial weights, which are computed when they are read; equal seeds give equal weights."""
    graph.tensors = Weights(_fresh(graph, seed))


def bind_given(
    graph: Graph,
    given: Path | Mapping[str, LazyTensor],
    seed: int,
    diagnostics: Diagnostics,
    allow_pickle: bool = False,
    renaming: Path | None = None,
) -> None:
    """Bind given tensors to the weights of a graph; a missing or a surplus tensor is an error.

    Args:
        given: the path of a weights file, or tensors by name.
        seed: seed for tensors that a file may lack, such as the batch counter of batch normalization.
        diagnostics: collects warnings, for example of dtype conversions.
        allow_pickle: also read PyTorch's pickle files, with `torch.load(weights_only=True)`.
        renaming: file of rules that map names in the weights file to paths of weights in the graph; see
            `archc.weights.rename`.

    Raises:
        ArchcError: the file cannot be read, or the tensors do not fit the weights of the graph.
    """
    from archc.weights.load import load
    from archc.weights.match import match

    expected = {
        stored: (shape, dtype.value) for w in graph.weights.values() for stored, (shape, dtype) in w.tensors.items()
    }
    optional = _optional(graph)
    given = load(given, allow_pickle=allow_pickle) if isinstance(given, Path) else given
    origins: dict[str, Origin] | None = None
    if renaming is not None:
        from archc.weights.rename import rename
        from archc.weights.rename_rules import read_rules

        origins = {}
        given = rename(given, read_rules(renaming), expected, diagnostics, origins)
    _check_storages(graph, given)
    matched = match(expected, given, optional=optional, remarks=diagnostics, origins=origins)
    fresh = _fresh(graph, seed)
    graph.tensors = Weights({stored: matched.get(stored, fresh[stored]) for stored in expected})
    for weight in graph.weights.values():
        if isinstance(weight.storage, Masked):  # the file may have nonzero elements outside the mask
            stored_as = {stored: graph.tensors[stored] for stored in weight.tensors}
            decoded = ComputedTensor(weight.shape, weight.dtype.value, partial(_decoded, weight, stored_as))
            graph.tensors.set(weight.path, decoded)
        if isinstance(weight.storage, Sparse):
            _check_mask(weight, weight.storage, graph.tensors[f"{weight.path}_mask"].numpy())


def _check_mask(weight: Weight, storage: Sparse, mask: np.ndarray) -> None:
    """Reject a bitmask that does not have as many elements as the text says.

    Raises:
        ArchcError: the numbers differ (`weights-malformed`).
    """
    count = int(unpacked_mask(mask, weight.shape).sum())
    if count != storage.count:
        raise error(
            "weights-malformed",
            f"the mask of {quoted(weight.path)} keeps {count:,} elements, but the text stores `{storage}`",
            help="give the file that was written together with this text",
        )


def _check_storages(graph: Graph, given: Mapping[str, LazyTensor]) -> None:
    """Reject float tensors for weights that the text stores as integers; one error covers all of them.

    Raises:
        ArchcError: the file has floats where the text stores integers with a scale (`weights-not-quantized`).
    """
    encoded = [
        weight
        for weight in graph.weights.values()
        if not (weight.storage.elementwise or isinstance(weight.storage, NarrowFloat | FakeQuantized | Sparse))
    ]
    floats = [
        weight
        for weight in encoded
        if weight.path in given
        and given[weight.path].dtype in FLOATS
        and not any(stored in given for stored in weight.tensors if stored != weight.path)
    ]
    if floats:
        first = quoted(floats[0].path)
        named = first if len(floats) == 1 else f"{len(floats):,} weights, such as {first},"
        raise error(
            "weights-not-quantized",
            f"the text stores {named} as numbers with a scale, but the file has floats",
            help="compile the unquantized text with this file and `--passes quant`",
        )


def _decoded(weight: Weight, tensors: Mapping[str, LazyTensor]) -> np.ndarray:
    return weight.decode({path: tensor.numpy() for path, tensor in tensors.items()})


def _optional(graph: Graph) -> set[str]:
    """Tensors that a weights file may lack: counters of training steps, and tensors of dead layers."""
    counters = {
        path
        for node in graph.nodes()
        for name, path in node.weights.items()
        if node.op.parameters[name].optional_in_files
    }
    return counters | graph.dead_weights


def _fresh(graph: Graph, seed: int) -> dict[str, LazyTensor]:
    tensors: dict[str, LazyTensor] = {}
    for weight in graph.weights.values():
        dense = InitializedTensor(weight.shape, weight.dtype.value, weight.initializer, (seed, weight.path))
        if isinstance(weight.storage, Dense):
            tensors[weight.path] = dense
        else:
            tensors |= _encoded(weight, dense)
    return tensors


def _encoded(weight: Weight, dense: LazyTensor) -> Mapping[str, LazyTensor]:
    """Stored tensors of a new weight whose format is not `Dense`, such as integers and their scale."""

    def part(stored: str) -> np.ndarray:
        return weight.storage.encode(weight.path, dense.numpy())[stored]

    return {
        stored: ComputedTensor(shape, dtype.value, partial(part, stored))
        for stored, (shape, dtype) in weight.tensors.items()
    }
