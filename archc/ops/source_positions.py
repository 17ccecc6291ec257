"""Positions of the elements that `upsample` reads, the same in ONNX as in PyTorch's kernels.

PyTorch computes source positions in the dtype of the data (in f32 for f16 and bytes), and rounds intermediate results.
The ONNX nodes must round the same intermediate results, or they would select other elements.  A call of `single` marks
each place where PyTorch rounds to f32.  The formulas come from `aten/src/ATen/native/UpSample.h` and
`native/cpu/UpSampleKernel.cpp`.
"""

from __future__ import annotations

from collections.abc import Sequence

from archc.declaration.onnx_vector import Condition, OnnxVector, counting, known, size
from archc.declaration.spelling import OnnxSpelling
from archc.frozen_dataclass import frozen_dataclass
from archc.types.dims import SymbolicDim
from archc.types.tensor_type import DType

Tap = tuple[OnnxVector, OnnxVector | None]
"""Two vectors: the indices of source elements, and the weights of these elements in the sum.

The second vector is None if all weights are 1.
"""

_SINGLE = 1  # TensorProto.FLOAT
_SMALL = 128
"""Largest sum of height and width for which PyTorch uses its kernel for small images."""
CUBIC_COEFFICIENT = -0.75
"""PyTorch's coefficient of cubic interpolation (Keys 1981, "Cubic convolution interpolation")."""


@frozen_dataclass
class Resampling:
    """One axis to resample.

    Attributes:
        before: size of the axis in the operand.
        after: size of the axis in the result.
        factor: the factor that gave `after`; None if `after` was given.
        corners: True if the centres of the corner elements are aligned.
        double: True if PyTorch computes positions in f64.
    """

    before: int | SymbolicDim
    after: int | SymbolicDim
    factor: float | None
    corners: bool
    double: bool

    @property
    def unchanged(self) -> bool:
        """Return whether the size, and therefore every element, is unchanged."""
        return self.before == self.after and self.factor in (None, 1)

    @property
    def may_copy(self) -> bool:
        """Return whether the size may be unchanged at run time.  Linear interpolation then copies elements."""
        if isinstance(self.before, int) and isinstance(self.after, int):
            return self.before == self.after
        return self.factor is None or 1 < self.factor < 2

    @property
    def power_of_two(self) -> float | None:
        """The factor if it is a power of two, so that positions are exact; otherwise None."""
        if self.factor is not None:
            exact = self.factor
        elif isinstance(self.before, int) and isinstance(self.after, int) and self.before:
            exact = self.after / self.before
        else:
            return 1.0 if self.before == self.after else None
        numerator, denominator = float(exact).as_integer_ratio()
        return float(exact) if numerator & (numerator - 1) == denominator & (denominator - 1) == 0 else None


class SourcePositions:
    """Positions in the operand from which the elements along one axis of the result are interpolated."""

    def __init__(self, spell: OnnxSpelling, axis: Resampling):
        self._spell, self._axis = spell, axis
        self._before, self._after = size(spell, axis.before), size(spell, axis.after)
        self._last = self._before - 1
        self._indices = counting(spell, axis.after)

    def nearest(self, special: Condition) -> list[Tap]:
        """Taps of nearest-neighbour resampling: one for each element of the result.

        Args:
            special: the condition under which PyTorch uses its kernel for small images.  That kernel copies elements if
                the size is unchanged, repeats each element if the size doubles, and computes positions in f32.
        """
        index = self._nearest(self._axis.double)
        if special is not False:
            index = self._nearest(False).where(special, index) if self._axis.double else index
            for multiple in special_multiples(self._axis):
                same = _conjunction(self._spell, special, self._after.equals(self._before * multiple))
                index = (self._indices / multiple).floor().where(same, index)
        return [(index, None)]

    def linear(self) -> list[Tap]:
        """Taps of linear interpolation: two for each element of the result."""
        position = self._position().maximum(0)
        index = position.floor().minimum(self._last)
        weight = (position - index).minimum(1)
        following = (index + 1).minimum(self._last)
        if self._axis.may_copy:
            same = self._after.equals(self._before)
            index, weight = self._indices.where(same, index), (weight * 0).where(same, weight)
            following = index.where(same, following)
        return [(index, weight * -1 + 1), (following, weight)]

    def cubic(self) -> list[Tap]:
        """Taps of cubic interpolation: four for each element of the result."""
        position = self._position()
        whole = position.floor().minimum(self._last)
        t = (position - whole).maximum(0).minimum(1)
        rest = t * -1 + 1
        weights = (_outer(t + 1), _inner(t), _inner(rest), _outer(rest + 1))
        return [
            ((whole + offset).maximum(0).minimum(self._last), weight) for offset, weight in zip((-1, 0, 1, 2), weights)
        ]

    def _nearest(self, double: bool) -> OnnxVector:
        # Before the floor, PyTorch also rounds f64 positions to f32.
        position = (self._indices * self._step(double)).single()
        return position.floor().minimum(self._last)

    def _position(self) -> OnnxVector:
        axis = self._axis
        if axis.corners:
            steps = (self._after - 1).maximum(1)
            step = _rounded(self._last / steps, axis.double)  # irrelevant if the result has size 1: its only index is 0
            return _rounded(self._indices * step, axis.double)
        # PyTorch's CPU kernel computes this expression with one fused multiply-add, which rounds once.
        return _rounded((self._indices + 0.5) * self._step(axis.double) - 0.5, axis.double)

    def _step(self, double: bool) -> OnnxVector:
        factor = self._axis.factor
        exact = self._before / self._after if factor is None else known(self._spell, 1 / factor)
        return _rounded(exact, double)


def resample(spell: OnnxSpelling, kind: str, axes: Sequence[Resampling]) -> str:
    """Resample the spatial axes of the operand one after the other, from the last to the first.

    Args:
        kind: `nearest`, `linear` or `cubic`.
    """
    dtype = spell.types[0].dtype
    computed = dtype if dtype is DType.f64 or kind == "nearest" else DType.f32
    result = spell.operands[0]
    if computed is not dtype:
        result = spell.add("Cast", result, to=_SINGLE)
    special = _is_small_image(spell, axes) if kind == "nearest" else False
    for number, axis in reversed(list(enumerate(axes))):
        if axis.unchanged:
            continue
        positions = SourcePositions(spell, axis)
        taps = positions.nearest(special) if kind == "nearest" else getattr(positions, kind)()
        result = _weighted_sum(spell, result, taps, number + 2, len(axes) - number - 1, computed)
    return result if computed is dtype else spell.add("CastLike", result, spell.operands[0])


def _weighted_sum(spell: OnnxSpelling, x: str, taps: Sequence[Tap], axis: int, trailing: int, dtype: DType) -> str:
    """Weighted sum of source elements along an axis."""
    total = ""
    for indices, weights in taps:
        part = spell.add("Gather", x, indices.as_indices(), axis=axis)
        if weights is not None:
            part = spell.add("Mul", part, weights.as_weights(dtype, trailing))
        total = spell.add("Add", total, part) if total else part
    return total


def _is_small_image(spell: OnnxSpelling, axes: Sequence[Resampling]) -> Condition:
    """Condition under which PyTorch's kernel for small images matters; see `SourcePositions.nearest`."""
    if not layout_matters(axes):
        return False
    height, width = (size(spell, axis.after) for axis in axes)
    return (height + width).at_most(_SMALL)


def layout_matters(axes: Sequence[Resampling]) -> bool:
    """Return whether nearest-neighbour results depend on the kernel that PyTorch selects.

    PyTorch selects the kernel by image size and memory layout.
    """
    if len(axes) != 2:
        return False
    return any(special_multiples(axis) or (axis.double and axis.power_of_two is None) for axis in axes)


def special_multiples(axis: Resampling) -> tuple[int, ...]:
    """Ratios of new to old size at which PyTorch's kernel for small images ignores the factor of the axis.

    The result is (1,), (2,) or ().  For example, the factor 1.2 resamples 4 elements to ⌊1.2 · 4⌋ = 4 elements: the
    ratio is 1.  PyTorch's kernel for small images then copies the elements 0, 1, 2 and 3, as for the factor 1.  The
    other kernels use the factor 1.2, and copy the elements ⌊i / 1.2⌋: 0, 0, 1 and 2.
    """
    return tuple(multiple for multiple in (1, 2) if axis.factor is not None and multiple < axis.factor < multiple + 0.5)


def _conjunction(spell: OnnxSpelling, left: Condition, right: Condition) -> Condition:
    if isinstance(left, bool):
        return right if left else False
    if isinstance(right, bool):
        return left if right else False
    return spell.add("And", left, right)


def _rounded(vector: OnnxVector, double: bool) -> OnnxVector:
    return vector if double else vector.single()


def _inner(x: OnnxVector) -> OnnxVector:
    """Keys' interpolation kernel for distances up to 1."""
    return (x * (CUBIC_COEFFICIENT + 2) - (CUBIC_COEFFICIENT + 3)) * x * x + 1


def _outer(x: OnnxVector) -> OnnxVector:
    """Keys' interpolation kernel for distances from 1 to 2."""
    return ((x * CUBIC_COEFFICIENT - 5 * CUBIC_COEFFICIENT) * x + 8 * CUBIC_COEFFICIENT) * x - 4 * CUBIC_COEFFICIENT
