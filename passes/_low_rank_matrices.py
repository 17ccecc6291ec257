"""Weights that two factors can replace, with the cost of each rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from archc.analysis.cost import NodeCosts
from archc.analysis.layers import Layer, layers_with_weights
from archc.compression.low_rank import Array
from archc.declaration.base import Operator
from archc.declaration.traits import FACTORED_STORAGE, SELECTS_ROWS
from archc.ir.graph import Graph, Node
from archc.passmanager import Context
from archc.types.storage import Dense

# Cost of the second operator in multiply-adds, measured with ONNX Runtime on one core at batch 1 and 32.  Linear layers
# (the smallest 128 → 10, the largest 1024 → 1024) and convolutions became slower if the factors saved less than this
# cost.
OPERATOR_COST = 16_384
"""Cost of a kernel call."""
ELEMENT_COST = 100
"""Cost of each element of the tensor between the two operators, which is written once and read once."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """A weight W of a layer, reshaped to a matrix with a row for each output channel.

    Attributes:
        name, path: name of the parameter, and path of the weight.
        shape: m and n.
        element_size: bytes of an element.
        splits: True if the layer becomes two layers; False if the weight is stored as two factors, and the layer
            computes with their product.
        work: multiply-adds of the layer, over all its uses.
        work_per_rank: multiply-adds of both layers for each unit of rank.
    """

    layer: Layer
    name: str
    path: str
    shape: tuple[int, int]
    element_size: int
    splits: bool
    work: int
    work_per_rank: int

    @property
    def selects_rows(self) -> bool:
        """True for a table of vectors, such as the weight of an `embedding`."""
        return self.layer.op.has(SELECTS_ROWS)

    @property
    def parameters(self) -> int:
        """Number of elements of the weight."""
        return self.shape[0] * self.shape[1]

    @property
    def full_rank(self) -> int:
        """The largest rank."""
        return min(self.shape)

    @property
    def title(self) -> str:
        """Name of the weight in a message on its layer."""
        return "its weight" if len(self.layer.weights) == 1 else self.name

    def parameters_at(self, rank: int | None) -> int:
        """Elements of both factors; of the weight without a rank."""
        return self.parameters if rank is None else rank * sum(self.shape)

    def multiply_adds_at(self, rank: int | None) -> int:
        """Multiply-adds of both layers; of the layer without a rank."""
        return self.work if rank is None or not self.splits else rank * self.work_per_rank

    def obstacle_to_size(self, rank: int) -> str | None:
        """Reason why a rank does not make the weight smaller, or None."""
        before, after = self.parameters, self.parameters_at(rank)
        return None if after < before else f"would not make it smaller: r(m + n) = {after:,} ≥ mn = {before:,}"

    def obstacle_to_speed(self, rank: int) -> str | None:
        """Reason why a rank does not make the layer faster, or None.

        Stored factors do not change the speed.  A table is not factorized for speed.
        """
        if not self.splits or self.selects_rows:
            return None
        saved = self.work - self.multiply_adds_at(rank)
        needed = max(OPERATOR_COST * len(self.layer.nodes), ELEMENT_COST * self.work * rank / self.parameters)
        if saved >= needed:
            return None
        return f"would be slower: it saves {saved:,.0f} multiply-adds, but a second operator costs {needed:,.0f}"

    def values(self, graph: Graph) -> Array:
        """The weight, [m, n]."""
        return graph.weight_values(self.path).reshape(self.shape)


def matrices_of_layers(graph: Graph, sizes: Mapping[str, int]) -> dict[Layer, list[Matrix] | str]:
    """The weights of each layer that factors can replace, or the reason why there are none."""
    costs = NodeCosts(graph, sizes)
    return {layer: _obstacle(graph, layer) or _matrices(graph, layer, costs) for layer in layers_with_weights(graph)}


def finite_matrices(graph: Graph, context: Context, matrices: list[Matrix]) -> list[Matrix]:
    """The matrices without NaN and infinite elements, with a remark on the others."""
    found = []
    for matrix in matrices:
        if np.isfinite(matrix.values(graph)).all():
            found.append(matrix)
        else:
            context.left(matrix.layer.path, f"{matrix.title} has NaN or infinite elements")
    return found


def _matrices(graph: Graph, layer: Layer, costs: NodeCosts) -> list[Matrix]:
    splits = not layer.op.has(FACTORED_STORAGE)
    work = sum(costs.multiply_adds(node) for node in layer.nodes)
    per_rank = sum(costs.multiply_adds_of(node, _pair(node)) for node in layer.nodes) if splits else 0
    found = []
    for name, path in layer.weights.items():
        weight = graph.weights[path]
        shape = weight.shape[0], weight.size // max(1, weight.shape[0])
        found.append(Matrix(layer, name, path, shape, weight.dtype.size, splits, work, per_rank))
    return found


def _pair(node: Node) -> tuple[Operator, Operator]:
    """The two operators of rank 1 that replace a node; rank r takes r times their multiply-adds."""
    pair = node.op.factors(1)
    assert pair is not None, "`_obstacle` has checked that the operator has factors"
    return pair


def _obstacle(graph: Graph, layer: Layer) -> str | None:
    """Reason why a layer cannot be factorized at any rank, or None."""
    if layer.op.has(FACTORED_STORAGE) and not layer.weights:
        return "it has no matrix to factorize"
    if layer.op.factors(1) is None and not layer.op.has(FACTORED_STORAGE):
        return f"`{layer.op.name}` with these attributes does not split into two"
    if layer.tied_to is not None:
        return f"it shares its weight with `{layer.tied_to}`"
    storages = (graph.weights[path].storage for path in layer.weights.values())
    storage = next((storage for storage in storages if storage != Dense()), None)
    if storage is not None:
        return f"its weight is stored as {storage}: run `lowrank` first"
    return None
