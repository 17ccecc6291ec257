"""Shrinkable axes of a graph: the axes and indices from which pruning can remove elements.

The signature of an operator names the indices of each axis: `x[n, i], weight[o, i] -> y[n, o]` for a linear layer.  An
index of a node is fixed if the node needs all elements of the index.  Examples are the index of a softmax, a spatial
index of a convolution, and an index whose size is an attribute that cannot change.  Axes of the model's inputs and
outputs are fixed.  Each fixed index or axis has a reason: a clause such as "`fc` needs all of them", where "them"
means the elements of the index or axis.

Fixed indices propagate through the graph.  If all indices of an axis are fixed in one node, the axis is fixed.  If an
axis is fixed, all its indices in all nodes are fixed.  An index that is not fixed is free.

An axis is a product of indices (heads · width), or a sum of such products, which are called its terms.  If several
factors of a term are free, only one of them may shrink: for heads · width, either whole heads are removed, or the same
elements of all heads.  If both factors could shrink, each element would be linked to the rest of its head and to the
same element of all other heads (`archc.analysis.coupling`), so the whole axis would be one group.
`_choose_free_factors` chooses the factor that may shrink, and fixes the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from archc.declaration.base import Operator
from archc.declaration.traits import Blocks, Flexible, Indices, Rigid, Unused
from archc.frozen_dataclass import frozen_by_identity
from archc.ir.graph import Graph, Node, Value
from archc.types.attributes import attributes
from archc.types.extent_solver import Extent
from archc.types.signature import Apply, Axis, Factor, Index, Pattern, Signature

if TYPE_CHECKING:
    from collections.abc import Mapping

Tensor = Value | str
"""A value or the path of a weight."""
TensorAxis = tuple[Tensor, int]
"""A tensor and the number of an axis."""
NodeIndex = tuple[Hashable, str]
"""An owner and the name of an index.  Nodes that must shrink together have one owner; see `_owner`."""


@frozen_by_identity
class AxisUse:
    """Pair of a tensor's axis and the corresponding axis in the signature of a node.

    Attributes:
        node: the node, which uses or produces the tensor.
        owner: owner of the node's indices; see `NodeIndex`.
        tensor_axis: the axis of the tensor.
        axis: the axis in the signature.
        extents: extents of the node's indices.
        is_result: True if the tensor is a result of the node.
        is_operand: True if the tensor is an operand of the node, not a weight.
    """

    node: Node
    owner: Hashable
    tensor_axis: TensorAxis
    axis: Axis
    extents: Mapping[str, Extent]
    is_result: bool
    is_operand: bool

    def wide(self, term: tuple[Factor, ...]) -> list[str]:
        """Return the indices of a term that have more than one element."""
        return [factor.name for factor in term if isinstance(factor, Index) and self.extents[factor.name] != 1]

    def indices(self) -> list[NodeIndex]:
        """Return all indices of the axis that have more than one element."""
        return [(self.owner, name) for term in self.axis.terms for name in self.wide(term)]


class ShrinkableAxes:
    """The fixed and the shrinkable axes and indices of a graph.

    Attributes:
        uses: all uses of axes, in the order of the nodes.
        fixed_indices: the indices that cannot shrink, each with the reason.
        fixed_axes: the axes that cannot shrink, each with the reason.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.fixed_indices: dict[NodeIndex, str] = {}
        self.fixed_axes: dict[TensorAxis, str] = {}
        self._by_node = {node: list(_uses(node)) for node in graph.nodes()}
        self.uses = [use for uses in self._by_node.values() for use in uses]
        self._axis_uses: dict[TensorAxis, list[AxisUse]] = {}
        self._index_uses: dict[NodeIndex, list[AxisUse]] = {}
        for use in self.uses:
            self._axis_uses.setdefault(use.tensor_axis, []).append(use)
            for index in use.indices():
                self._index_uses.setdefault(index, []).append(use)
        self._varying_layers = _varying_layers(self.uses)
        self._fix_inputs_and_outputs()
        self._fix_encoded_weights()
        for use in self.uses:
            if not use.indices() and self.size(use.tensor_axis) != 1:
                self._fix_axis(use.tensor_axis, f"`{use.node.title}` needs all of them")
        for node in graph.nodes():
            self._fix_rigid(node)
        for node in graph.nodes():
            self._choose_free_factors(node)

    def size(self, tensor_axis: TensorAxis) -> Extent:
        """Return the extent of an axis."""
        tensor, number = tensor_axis
        shape = self.graph.weights[tensor].shape if isinstance(tensor, str) else tensor.type.shape
        return shape[number]

    def of_node(self, node: Node) -> list[AxisUse]:
        """Return the uses of axes by one node."""
        return self._by_node[node]

    def free(self, use: AxisUse, term: tuple[Factor, ...]) -> list[str]:
        """Return the indices of a term that can shrink.  After `__init__`, a term has at most one such index."""
        return [name for name in use.wide(term) if (use.owner, name) not in self.fixed_indices]

    # Fixing -----------------------------------------------------------------------------------------------

    def _fix_axis(self, tensor_axis: TensorAxis, reason: str) -> None:
        """Fix an axis, and all axes and indices that are fixed as a consequence."""
        stack: list[TensorAxis | NodeIndex] = [tensor_axis]
        while stack:
            at = stack.pop()
            if isinstance(at[1], int):
                if at in self.fixed_axes:
                    continue
                self.fixed_axes[at] = reason  # type: ignore[index]  # a `TensorAxis`, as its second item is a number
                uses = self._axis_uses.get(at, ())  # type: ignore[call-overload]  # a `TensorAxis`
                stack += [index for use in uses for index in use.indices()]
            elif at not in self.fixed_indices:
                self.fixed_indices[at] = reason  # type: ignore[index]  # a `NodeIndex`, as its second item is a name
                for use in self._index_uses.get(at, ()):  # type: ignore[call-overload]  # a `NodeIndex`
                    if all(index in self.fixed_indices for index in use.indices()):
                        stack.append(use.tensor_axis)

    def _fix_index(self, index: NodeIndex, reason: str) -> None:
        """Fix an index, and all axes and indices that are fixed as a consequence."""
        if index in self.fixed_indices:
            return
        self.fixed_indices[index] = reason
        for use in self._index_uses.get(index, ()):
            if all(other in self.fixed_indices for other in use.indices()):
                self._fix_axis(use.tensor_axis, reason)

    def _fix_inputs_and_outputs(self) -> None:
        ends = [(value, f"the input `{value.name}` has them") for value in self.graph.inputs]
        ends += [(value, f"the output `{name}` has them") for name, value in self.graph.outputs.items()]
        for value, reason in ends:
            for number in range(value.type.rank):
                self._fix_axis((value, number), reason)
        for tensor_axis in self._axis_uses:
            if not isinstance(self.size(tensor_axis), int):
                self._fix_axis(tensor_axis, "their number is known only at run time")

    def _fix_encoded_weights(self) -> None:
        for path, weight in self.graph.weights.items():
            if not weight.storage.elementwise:
                for number in range(len(weight.shape)):
                    self._fix_axis(
                        (path, number),
                        f"`{path}` is stored as {weight.storage}: run `prune` before the pass that encodes it",
                    )

    def _fix_rigid(self, node: Node) -> None:
        """Fix the indices that a node needs in full, and those whose extents its attributes determine."""
        uses = self._by_node[node]
        if not uses:
            return
        owner, extents = uses[0].owner, uses[0].extents
        rigid, flexible, given = _rigid(node), _flexible(node.op), node.op.extents(node.types)
        for name in extents:
            if rigid.covers(name):
                self._fix_index((owner, name), f"`{node.title}` combines all of them")
            elif name in given and (not flexible.covers(name) or node.path in self._varying_layers):
                self._fix_index((owner, name), f"`{node.title}` has an attribute for their number")
        for name in _function_indices(uses):
            self._fix_index((owner, name), f"`{node.title}` changes their number")
        unused = node.op.trait(Unused) or Unused()
        for name in _reduced_indices(uses):
            if not unused.covers(name):
                self._fix_index((owner, name), f"`{node.title}` combines them")

    # Choosing ---------------------------------------------------------------------------------------------

    def _choose_free_factors(self, node: Node) -> None:
        """Choose one free factor of every product of a node, and fix the others."""
        uses = self._by_node[node]
        alone = {names[0] for use in uses for term in use.axis.terms if len(names := use.wide(term)) == 1}
        for use in uses:
            for term in use.axis.terms:
                free = self.free(use, term)
                if len(free) > 1:
                    # Order of preference: a factor that the operator declares as a block; a factor that other nodes
                    # shrink in this axis; the first factor that is a whole term elsewhere in this node; the last
                    # factor.
                    agreed = self._agreed_factors(use)
                    blocks = node.op.trait(Blocks) or Blocks()
                    chosen = next((name for name in blocks.indices if name in free), None)
                    chosen = chosen or next(
                        (name for name in free if _extent_and_stride(use, term, name) in agreed), None
                    )
                    chosen = chosen or next((name for name in free if name in alone), free[-1])
                    for name in free:
                        if name != chosen:
                            self._fix_index(
                                (use.owner, name), f"in `{node.title}`, only another index of the axis can shrink"
                            )

    def _agreed_factors(self, use: AxisUse) -> set[tuple[Extent, Extent]]:
        """Return the extent and stride of each factor that another node shrinks in the same axis.

        A node is ignored if the axis is a sum of several terms in this node.
        """
        others = [
            other
            for other in self._axis_uses[use.tensor_axis]
            if other.node is not use.node and len(other.axis.terms) == 1
        ]
        products = [(other, other.axis.terms[0]) for other in others if len(other.indices()) > 1]
        frees = [(other, term, self.free(other, term)) for other, term in products]
        return {_extent_and_stride(other, term, free[0]) for other, term, free in frees if len(free) == 1}


def _extent_and_stride(use: AxisUse, term: tuple[Factor, ...], name: str) -> tuple[Extent, Extent]:
    """Return the extent and the stride of a factor of a term.

    The stride is the product of the extents of the later factors.
    """
    names = use.wide(term)
    inner: Extent = 1
    for other in names[names.index(name) + 1 :]:
        inner = inner * use.extents[other]
    return use.extents[name], inner


def _uses(node: Node) -> Iterator[AxisUse]:
    """Yield the uses of the axes of a node's operands, weights and results."""
    solution = node.op.infer(node.types).solution
    owner = _owner(node, solution.extents)
    for pattern, tensor, made in _patterns(node, solution.signature):
        for number, axis in enumerate(pattern.axes):
            data = not made and not isinstance(tensor, str)
            yield AxisUse(node, owner, (tensor, number), axis, solution.extents, made, data)


def _owner(node: Node, extents: Mapping[str, Extent]) -> Hashable:
    """Return the owner of a node's indices: the node, or the layer if several nodes must shrink together.

    Nodes with the same path are one layer and share its attributes.  If attributes give sizes, these nodes shrink
    together.  Nodes with weights are coupled by their shared weights instead.
    """
    if node.path is None or node.weights or not node.op.extents(node.types):
        return node
    return node.path, tuple(sorted((name, str(size)) for name, size in extents.items()))


def _patterns(node: Node, signature: Signature) -> Iterator[tuple[Pattern, Tensor, bool]]:
    data = [pattern for pattern in signature.operands if pattern.name not in node.op.parameters]
    for pattern, operand in zip(data, node.operands):
        yield pattern, operand, False
    for pattern in signature.operands:
        if pattern.name in node.weights:
            axes = pattern.axes[::-1] if pattern.name in node.transposed else pattern.axes
            yield replace(pattern, axes=axes), node.weights[pattern.name], False
    for pattern, result in zip(signature.results, node.results):
        yield pattern, result, True


def _rigid(node: Node) -> Rigid:
    """Rigid indices of a node, with the index of the axis that an attribute selects."""
    rigid = node.op.trait(Rigid) or Rigid()
    if rigid.axis is None:
        return rigid
    operand = next(info.axis for info in attributes(type(node.op)) if info.name == rigid.axis)
    signature = node.op.infer(node.types).solution.signature
    axes = next(pattern.axes for pattern in signature.operands if pattern.name == operand)
    selected = [axes[number] for number in node.op.axis_numbers(rigid.axis, node.types)]
    names = (factor.name for axis in selected for factor in axis.factors if isinstance(factor, Index))
    return Rigid(*rigid.indices, *names)


def _flexible(op: Operator) -> Indices:
    """Indices with an extent that attributes of an operator can change."""
    declared = op.trait(Flexible)
    if declared is not None:
        return declared
    infos = (info for info in attributes(type(op)) if info.index is not None)
    return Indices(*(info.index or "" for info in infos if info.of(op) is not None))


def _function_indices(uses: list[AxisUse]) -> list[str]:
    """Return the indices in functions, such as h in `conv(h)`: the axis has another extent than h."""
    return [factor.index.name for use in uses for factor in use.axis.factors if isinstance(factor, Apply)]


def _reduced_indices(uses: list[AxisUse]) -> list[str]:
    """Return the indices that occur in one operand or weight and in no result: the node reduces them."""
    made = {name for use in uses if use.is_result for _, name in use.indices()}
    taken = Counter(name for use in uses if not use.is_result for _, name in use.indices())
    return [name for name, count in taken.items() if name not in made and count < 2]


def _varying_layers(uses: list[AxisUse]) -> set[str | None]:
    """Return the paths of layers whose uses differ in sizes: one attribute value may not fit all uses."""
    owners: dict[str | None, set[Hashable]] = {}
    for use in uses:
        if use.owner is not use.node:
            owners.setdefault(use.node.path, set()).add(use.owner)
    return {path for path, different in owners.items() if len(different) > 1}
