"""Coupled channels: groups of elements that pruning can remove only together.

Every shrinkable axis of a tensor and every shrinkable index of a node has elements.  The signature of a node links the
elements of an axis to the elements of its indices:

- In an axis `g*i` only one factor can shrink, which `archc.analysis.shrinkable_axes` chooses.  If it is `g`, element k
  of the axis is linked to element `k // i` of `g`.
- In an axis `p + q`, the first p elements are linked to the elements of `p`, and the others to the elements of `q`.

The groups are the connected components of these links over the whole graph.  Examples are the channels of an attention
head, equal channels of two tensors that are added, and a row of one weight with the column of the next weight.  A group
cannot be removed if one of its elements is fixed.  The analysis needs no rules for particular operators:
their signatures are enough.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from archc.analysis.shrinkable_axes import AxisUse, NodeIndex, ShrinkableAxes, TensorAxis
from archc.frozen_dataclass import frozen_dataclass
from archc.ir.graph import Graph, Node
from archc.types.extent_solver import Extent
from archc.types.signature import Factor, Index

Numbers = npt.NDArray[np.int64]


@frozen_dataclass
class ChannelGroup:
    """Elements that can be removed only together.

    Attributes:
        number: number that identifies the group, for example in the argument `removed` of a method.
        slices: the elements of weights in the group, by the path of the weight and the axis.
        index_counts: for each index of a node, the number of its elements in the group.
        producers: names of the layers that produce these channels with their weights.
        reason: reason that the group cannot be removed, such as "the output `y` has them"; "them" refers to the
            channels.  None for a removable group.
    """

    number: int
    slices: Mapping[tuple[str, int], Numbers]
    index_counts: Mapping[NodeIndex, int]
    producers: tuple[str, ...]
    reason: str | None


class Coupling:
    """The channel groups of a graph.

    Attributes:
        shrinkable: the axes and indices that can shrink.
        groups: all groups, in the order of their first elements.
        sizes: number of elements of each index that can shrink.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.shrinkable = ShrinkableAxes(graph)
        self.sizes: dict[NodeIndex, int] = {}
        self._first: dict[TensorAxis | NodeIndex, int] = {}
        self._count = 0
        self._stays: dict[int, str] = {}
        self._labels = self._connect()
        self.groups = self._gather()

    def families(self) -> list[list[ChannelGroup]]:
        """Return the removable groups, in one list for each set of layers that produces them."""
        found: dict[tuple[str, ...], list[ChannelGroup]] = {}
        for group in self.groups:
            if group.reason is None:
                found.setdefault(group.producers, []).append(group)
        return list(found.values())

    def kept(self, tensor_axis: TensorAxis, removed: Collection[int]) -> Numbers:
        """Return the elements of an axis that remain after the removal of groups."""
        size = self.shrinkable.size(tensor_axis)
        assert isinstance(size, int), "axes of symbolic size do not shrink"
        return self._kept(self._first.get(tensor_axis), size, removed)

    def group_numbers(self, tensor_axis: TensorAxis) -> Numbers:
        """Return the number of the group of each element of an axis; -1 for the elements of a fixed axis."""
        size, first = self.shrinkable.size(tensor_axis), self._first.get(tensor_axis)
        assert isinstance(size, int), "axes of symbolic size do not shrink"
        return np.full(size, -1, np.int64) if first is None else self._labels[first : first + size]

    def extents(self, node: Node, removed: Collection[int]) -> dict[str, Extent]:
        """Return the extents of a node's indices after the removal of groups."""
        uses = self.shrinkable.of_node(node)
        extents = dict(uses[0].extents) if uses else {}
        for name in extents:
            first = self._first.get((uses[0].owner, name))
            if first is not None:
                extents[name] = len(self._kept(first, self.sizes[uses[0].owner, name], removed))
        return extents

    def produced_axes(self) -> list[tuple[AxisUse, list[NodeIndex]]]:
        """Return the axes of results that are channels of a layer, each with its channel indices.

        A channel index is in a weight, but in no operand: `o` in `x[n, i], weight[o, i] -> y[n, o]`.
        """
        uses = self.shrinkable.uses
        of_operands = {index for use in uses if use.is_operand for index in use.indices()}
        of_weights = {index for use in uses if isinstance(use.tensor_axis[0], str) for index in use.indices()}
        new = of_weights - of_operands
        found = ((use, [index for index in use.indices() if index in new]) for use in uses if use.is_result)
        return [(use, indices) for use, indices in found if indices]

    def _kept(self, first: int | None, size: int, removed: Collection[int]) -> Numbers:
        everything = np.arange(size)
        if first is None:
            return everything
        gone = np.isin(self._labels[first : first + size], list(removed))
        return everything[~gone]

    # Building ---------------------------------------------------------------------------------------------

    def _connect(self) -> Numbers:
        """Return the number of the group of each element."""
        left, right = [], []
        for use in self.shrinkable.uses:
            if use.tensor_axis in self.shrinkable.fixed_axes or self.shrinkable.size(use.tensor_axis) == 1:
                continue
            for elements, coordinates in self._links(use):
                left.append(elements)
                right.append(coordinates)
        none = np.zeros(0, np.int64)
        return _components(self._count, np.concatenate([none, *left]), np.concatenate([none, *right]))

    def _links(self, use: AxisUse) -> Iterator[tuple[Numbers, Numbers]]:
        """For each term of an axis (`p` in `p + q`), yield its elements and those of its shrinkable index."""
        size = self.shrinkable.size(use.tensor_axis)
        assert isinstance(size, int), "axes of symbolic size are fixed"
        offset = self._first_element(use.tensor_axis, size)
        for term in use.axis.terms:
            shape = [_extent(factor, use.extents) for factor in term]
            elements = offset + np.arange(int(np.prod(shape, dtype=np.int64)))
            offset += len(elements)
            free = self.shrinkable.free(use, term)
            if not free:
                wide = use.wide(term)
                reason = (
                    self.shrinkable.fixed_indices[use.owner, wide[0]]
                    if wide
                    else f"`{use.node.title}` needs at least one channel"
                )
                self._stays |= {int(element): reason for element in elements}
                continue
            number = term.index(Index(free[0]))
            index = (use.owner, free[0])
            self.sizes[index] = shape[number]
            within = int(np.prod(shape[number + 1 :], dtype=np.int64))
            coordinates = np.arange(len(elements)) // within % shape[number]
            yield elements, self._first_element(index, shape[number]) + coordinates

    def _first_element(self, item: TensorAxis | NodeIndex, size: int) -> int:
        """Return the number of the first element of an axis or index in the numbering of all elements."""
        if item not in self._first:
            self._first[item] = self._count
            self._count += size
        return self._first[item]

    def _gather(self) -> list[ChannelGroup]:
        slices: dict[int, dict[tuple[str, int], Numbers]] = {}
        indices: dict[int, dict[NodeIndex, int]] = {}
        for (tensor, number), first in self._first.items():
            if isinstance(tensor, str) and isinstance(number, int):
                for label, elements in self._by_label(first, self.graph.weights[tensor].shape[number]):
                    slices.setdefault(label, {})[tensor, number] = elements
            elif not isinstance(number, int):
                for label, elements in self._by_label(first, self.sizes[tensor, number]):
                    indices.setdefault(label, {})[tensor, number] = len(elements)
        reasons: dict[int, str] = {}
        for element, reason in sorted(self._stays.items()):
            reasons.setdefault(int(self._labels[element]), reason)
        producers = {index: use.node.title for use, indices in self.produced_axes() for index in indices}
        return [
            ChannelGroup(
                label,
                slices.get(label, {}),
                having,
                tuple(dict.fromkeys(producers[index] for index in having if index in producers)),
                reasons.get(label),
            )
            for label, having in sorted(indices.items())
        ]

    def _by_label(self, first: int, size: int) -> Iterator[tuple[int, Numbers]]:
        labels = self._labels[first : first + size]
        order = np.argsort(labels, kind="stable")
        found, starts = np.unique(labels[order], return_index=True)
        for label, elements in zip(found, np.split(order, starts[1:])):
            yield int(label), elements


def _components(count: int, left: Numbers, right: Numbers) -> Numbers:
    """Return the component of each vertex of a graph; components are numbered by their first vertices."""
    links = coo_matrix((np.ones(len(left), np.int8), (left, right)), shape=(count, count))
    _, labels = connected_components(links, directed=False)
    _, firsts, inverse = np.unique(labels, return_index=True, return_inverse=True)
    ranks = np.argsort(np.argsort(firsts))
    numbers: Numbers = ranks[inverse].astype(np.int64)
    return numbers


def _extent(factor: Factor, extents: Mapping[str, Extent]) -> int:
    size = factor if isinstance(factor, int) else extents[factor.name] if isinstance(factor, Index) else None
    assert isinstance(size, int), "indices of symbolic extent are fixed"
    return size
