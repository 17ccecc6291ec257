"""New shapes given as sizes: `reshape` and `expand`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archc.declaration.axes import plain_axes, plain_axis
from archc.declaration.base import Operator, OperatorError, operator, symbolic
from archc.declaration.spelling import OnnxSpelling, TorchSpelling, Verbatim, method
from archc.declaration.traits import LAYOUT_ONLY, SAME_IF_SAME_TYPE, Flexible
from archc.ops.rearrange import Rearrangement
from archc.types.attributes import attribute
from archc.types.dims import SymbolicDim, divide, product
from archc.types.extent_solver import Extent
from archc.types.signature import UNIT, Axis, Index, Pattern, Signature
from archc.types.tensor_type import TensorType


@operator
class Reshape(Operator):
    """The elements in row-major order, in a given shape; a size of -1 is computed from the other sizes.

    Some reshapes split axes and then merge neighbouring axes, as in [4, 6] → [2, 2, 6] → [2, 12].  The signature of
    such a reshape relates the axes of both shapes by common indices.  A reshape from [2, 3] to [3, 2] is not of this
    form, so the axes have no common indices.
    """

    signature = "x[*d] -> y[*e]"
    traits = (LAYOUT_ONLY, SAME_IF_SAME_TYPE, Flexible("f"))
    example = "x -> reshape((-1, 3, 32, 32))"

    shape: tuple[int | SymbolicDim, ...] = attribute(doc="sizes of the result; one may be -1")

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        if len(types) != 1:
            return super().signature_for(types)
        old, new = types[0].shape, self._sizes(types[0])
        factors = common_factors(old, new)
        if factors is None:
            unlinked = [plain_axis(f"u{number}") for number in range(len(new))]
            return _signature(plain_axes(len(old)), unlinked)
        left, right, _ = factors
        return _signature([_axis(names) for names in left], [_axis(names) for names in right])

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        new = self._sizes(types[0])
        factors = common_factors(types[0].shape, new)
        if factors is None:
            return {f"u{number}": size for number, size in enumerate(new)}
        return factors[2]

    def with_extents(self, types: Sequence[TensorType], extents: Mapping[str, Any]) -> Reshape:
        factors = common_factors(types[0].shape, self._sizes(types[0]))
        assert factors is not None, "an axis without a counterpart is not flexible"
        sizes = (product([extents[name] for name in names]) for names in factors[1])
        return Reshape(tuple(-1 if given == -1 else size for given, size in zip(self.shape, sizes)))

    def _sizes(self, operand: TensorType) -> tuple[Extent, ...]:
        """The new shape, with the -1 computed."""
        old, open_places = product(operand.shape), [k for k, size in enumerate(self.shape) if size == -1]
        if len(open_places) > 1 or any(isinstance(size, int) and size < -1 for size in self.shape):
            raise OperatorError(
                "bad-attribute", "`reshape` expects sizes of at least 0, and at most one -1", attribute="shape"
            )
        known = product([size for size in self.shape if size != -1])
        missing = divide(old, known) if open_places and known != 0 else 1 if old == known else None
        if missing is None or (not open_places and old != known):
            wanted = ", ".join(str(size) for size in self.shape)
            raise OperatorError(
                "shape-mismatch",
                f"`reshape` cannot reshape {operand}, of {old} elements, to [{wanted}]",
                operand=0,
                attribute="shape",
            )
        return tuple(missing if size == -1 else size for size in self.shape)

    def after(self, inner: Operator, types: Sequence[TensorType]) -> Reshape | None:
        # Use the computed sizes: a -1 may differ for another operand.
        moves = isinstance(inner, Reshape) or (isinstance(inner, Rearrangement) and inner.in_order(types))
        return Reshape(self._sizes(inner.infer(types).results[0])) if moves else None

    def torch(self, spell: TorchSpelling) -> str:
        written = -1 in self.shape and not any(symbolic(size) or size == 0 for size in self.shape)
        sizes = self.shape if written else _torch_shape(spell, spell.results[0].shape)
        arguments = [Verbatim(spell.size(size)) for size in sizes] if written else sizes
        return method(spell.operands[0], "reshape", *(spell.unpacked("shape", arguments) or [()]))

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.reshape(spell.operands[0], spell.results[0].shape)


Names = list[list[str]]


def common_factors(old: Sequence[Extent], new: Sequence[Extent]) -> tuple[Names, Names, dict[str, Extent]] | None:
    """Axes of two shapes as products of common factors, and the sizes of the factors.

    [4, 6] and [2, 12] are [(a b), c] and [a, (b c)] with a = 2, b = 2, c = 6.  None if there are no such factors, as
    for [2, 3] and [3, 2], or if symbolic sizes leave the factors unknown.

    Args:
        old, new: shapes with the same number of elements.
    """
    left: Names = [[] for _ in old]
    right: Names = [[] for _ in new]
    sizes: dict[str, Extent] = {}
    ours = [(number, size) for number, size in enumerate(old) if size != 1]
    theirs = [(number, size) for number, size in enumerate(new) if size != 1]
    while ours and theirs:
        # Compare the last remaining sizes: the smaller one divides the larger one, or there are no common factors.
        (i, a), (j, b) = ours.pop(), theirs.pop()
        if a == 0 or b == 0:
            return None
        rest, other = divide(a, b), divide(b, a)
        if rest is None and other is None:
            return None
        name = f"f{len(sizes)}"
        sizes[name] = b if rest is not None else a
        left[i].insert(0, name)
        right[j].insert(0, name)
        if rest is not None and rest != 1:
            ours.append((i, rest))
        elif rest is None and other is not None:
            theirs.append((j, other))
    return None if ours or theirs else (left, right, sizes)


def _torch_shape(spell: TorchSpelling, shape: Sequence[Extent]) -> list[Any]:
    """Sizes as arguments of `reshape`: the only symbolic size becomes -1, which PyTorch computes."""
    unknown = [k for k, dim in enumerate(shape) if symbolic(dim)]
    if len(unknown) == 1 and 0 not in shape:
        return [-1 if k in unknown else dim for k, dim in enumerate(shape)]
    return [Verbatim(spell.size(dim)) for dim in shape]


@operator
class Expand(Operator):
    """Axes of size 1 repeated to the given sizes; additional sizes are new axes in front.

    -1 keeps the size of an axis.
    """

    signature = "x[*d] -> y[*e]"
    traits = (LAYOUT_ONLY, SAME_IF_SAME_TYPE, Flexible())
    example = "x -> expand((-1, 12, -1))"

    sizes: tuple[int | SymbolicDim, ...] = attribute(doc="sizes of the result; -1 keeps a size")

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        if len(types) != 1:
            return super().signature_for(types)
        operand, added = types[0], len(self.sizes) - types[0].rank
        if added < 0:
            raise OperatorError(
                "bad-attribute",
                f"`expand` expects at least {operand.rank} sizes for {operand}, got {len(self.sizes)}",
                attribute="sizes",
            )
        left, right = [], []
        for number, size in enumerate(self.sizes):
            old = operand.shape[number - added] if number >= added else 1
            if size == -1 and number < added:
                raise OperatorError(
                    "bad-attribute", "`expand` expects a size for a new axis, got -1", attribute="sizes"
                )
            stays = size == -1 or old == size
            if not stays and old != 1:
                raise OperatorError(
                    "shape-mismatch",
                    f"`expand` expects axis {number - added} of {operand} to have size 1 or {size}, got {old}",
                    operand=0,
                    attribute="sizes",
                )
            if number >= added:
                left.append(plain_axis(f"d{number}") if stays else UNIT)
            right.append(plain_axis(f"d{number}"))
        return _signature(left, right)

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        return {f"d{number}": size for number, size in enumerate(self.sizes) if size != -1}

    def with_extents(self, types: Sequence[TensorType], extents: Mapping[str, Any]) -> Expand:
        return Expand(tuple(-1 if size == -1 else extents[f"d{number}"] for number, size in enumerate(self.sizes)))

    def torch(self, spell: TorchSpelling) -> str:
        sizes: list[Any] = [Verbatim(spell.size(size)) for size in self.sizes]
        return method(spell.operands[0], "expand", *(spell.unpacked("sizes", sizes) or [()]))

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.add("Expand", spell.operands[0], spell.shape(spell.results[0].shape))


def _axis(names: Sequence[str]) -> Axis:
    return Axis((tuple(Index(name) for name in names),))


def _signature(left: Sequence[Axis], right: Sequence[Axis]) -> Signature:
    return Signature((Pattern("x", tuple(left)),), (Pattern("y", tuple(right)),))
