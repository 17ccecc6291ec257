"""Weights that two factors can replace, with the cost of each rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from archc.analysis.cost import NodeCosts
from archc.analysis.layers import Layer, layers_with_weights
from archc.compression.factorization.low_rank import Array
from archc.declaration.traits import FACTORED_STORAGE, SELECTS_ROWS
from archc.ir.graph import Graph
from archc.passmanager import Context
from archc.types.storage import Dense

from ._kernel_ranks import KernelCosts, KernelRanks, kernel_costs

# Cost of the second operator in multiply-adds, measured with ONNX Runtime on one core at batch 1 and 32.  Linear layers
# (the smallest 128 → 10, the largest 1024 → 1024) and convolutions became slower if the factors saved less than this
# cost.
OPERATOR_COST = 16_384
"""Cost of a kernel call."""
ELEMENT_COST = 100
"""Cost of each element of the tensor between the two operators, which is written once and read once."""


Rank = int | KernelRanks
"""Rank of a weight: that of `Operator.factors`, or a form of a convolution with its ranks."""


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
        kernels: the forms of a convolution by name.
    """

    layer: Layer
    name: str
    path: str
    shape: tuple[int, int]
    element_size: int
    splits: bool
    work: int
    work_per_rank: int
    kernels: Mapping[str, KernelCosts] = field(default_factory=dict)

    @property
    def paired(self) -> bool:
        """True if `Operator.factors` gives two layers for a rank, or the weight is stored as two factors."""
        return not self.splits or self.layer.op.factors(1) is not None

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

    def parameters_at(self, rank: Rank | None) -> int:
        """Elements of all factors; of the weight without a rank."""
        if isinstance(rank, KernelRanks):
            return self.kernels[rank.form.name].parameters_at(rank.ranks)
        return self.parameters if rank is None else rank * sum(self.shape)

    def multiply_adds_at(self, rank: Rank | None) -> int:
        """Multiply-adds of all layers; of the layer without a rank."""
        if isinstance(rank, KernelRanks):
            return self.kernels[rank.form.name].multiply_adds_at(rank.ranks)
        return self.work if rank is None or not self.splits else rank * self.work_per_rank

    def obstacle_to_size(self, rank: Rank) -> str | None:
        """Reason why a rank does not make the weight smaller, or None."""
        before, after = self.parameters, self.parameters_at(rank)
        if after < before:
            return None
        if isinstance(rank, KernelRanks):
            return f"would not make it smaller: {after:,} ≥ {before:,} parameters"
        return f"would not make it smaller: r(m + n) = {after:,} ≥ mn = {before:,}"

    def obstacle_to_speed(self, rank: Rank) -> str | None:
        """Reason why a rank does not make the layer faster, or None.

        Stored factors do not change the speed.  A table is not factorized for speed.
        """
        if not self.splits or self.selects_rows:
            return None
        saved = self.work - self.multiply_adds_at(rank)
        if isinstance(rank, KernelRanks):
            links, elements = rank.form.links, self.kernels[rank.form.name].elements_at(rank.ranks)
        else:
            links, elements = 1, self.work * rank // self.parameters
        needed = max(OPERATOR_COST * len(self.layer.nodes) * links, ELEMENT_COST * elements)
        if saved >= needed:
            return None
        operators = "a second operator costs" if links == 1 else "two more operators cost"
        return f"would be slower: it saves {saved:,.0f} multiply-adds, but {operators} {needed:,.0f}"

    def title_of(self, rank: Rank) -> str:
        """A rank in a message."""
        if isinstance(rank, KernelRanks):
            full = " and ".join(map(str, self.kernels[rank.form.name].full))
            each = " in each group" if self.kernels[rank.form.name].groups > 1 else ""
            return f"{rank} of {full}{each}"
        return f"rank {rank} of {self.full_rank}"

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
    pair = layer.op.factors(1)
    per_rank = sum(costs.multiply_adds_of(node, pair) for node in layer.nodes) if splits and pair else 0
    found = []
    for name, path in layer.weights.items():
        weight = graph.weights[path]
        shape = weight.shape[0], weight.size // max(1, weight.shape[0])
        kernels = kernel_costs(layer, weight.shape, costs) if splits else {}
        found.append(Matrix(layer, name, path, shape, weight.dtype.size, splits, work, per_rank, kernels))
    return found


def _obstacle(graph: Graph, layer: Layer) -> str | None:
    """Reason why a layer cannot be factorized at any rank, or None."""
    if layer.op.has(FACTORED_STORAGE) and not layer.weights:
        return "it has no matrix to factorize"
    if layer.op.factors(1) is None and not layer.op.kernel_forms() and not layer.op.has(FACTORED_STORAGE):
        return f"`{layer.op.name}` with these attributes does not split into two"
    if layer.tied_to is not None:
        return f"it shares its weight with `{layer.tied_to}`"
    storages = (graph.weights[path].storage for path in layer.weights.values())
    storage = next((storage for storage in storages if storage != Dense()), None)
    if storage is not None:
        return f"its weight is stored as {storage}: run `lowrank` first"
    return None
