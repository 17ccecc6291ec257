"""Vectors of numbers that are known when the ONNX model is emitted, or that its nodes compute.

A formula is written once for both cases: `OnnxVector` folds known numbers, and adds nodes for numbers that depend on
symbolic sizes.  All arithmetic is in 64-bit floats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from archc.declaration.spelling import OnnxSpelling
from archc.types.dims import SymbolicDim
from archc.types.tensor_type import DType

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_DOUBLE, _SINGLE = 11, 1  # TensorProto.DOUBLE and FLOAT


class OnnxVector:
    """A vector of 64-bit floats, or one number.

    Args:
        held: an array of known numbers, or the name of a value of the ONNX graph.
    """

    def __init__(self, spell: OnnxSpelling, held: Array | str):
        self._spell, self._held = spell, held

    def __add__(self, other: OnnxVector | float) -> OnnxVector:
        return self._binary("Add", lambda a, b: a + b, other)

    def __sub__(self, other: OnnxVector | float) -> OnnxVector:
        return self._binary("Sub", lambda a, b: a - b, other)

    def __mul__(self, other: OnnxVector | float) -> OnnxVector:
        return self._binary("Mul", lambda a, b: a * b, other)

    def __truediv__(self, other: OnnxVector | float) -> OnnxVector:
        return self._binary("Div", lambda a, b: a / b, other)

    def minimum(self, other: OnnxVector | float) -> OnnxVector:
        """Elementwise minimum."""
        import numpy as np

        return self._binary("Min", np.minimum, other)

    def maximum(self, other: OnnxVector | float) -> OnnxVector:
        """Elementwise maximum."""
        import numpy as np

        return self._binary("Max", np.maximum, other)

    def floor(self) -> OnnxVector:
        """Each number rounded down."""
        import numpy as np

        if isinstance(self._held, str):
            return OnnxVector(self._spell, self._spell.add("Floor", self._held))
        return OnnxVector(self._spell, np.floor(self._held))

    def single(self) -> OnnxVector:
        """Each number rounded to a 32-bit float."""
        import numpy as np

        if isinstance(self._held, str):
            rounded = self._spell.add("Cast", self._held, to=_SINGLE)
            return OnnxVector(self._spell, self._spell.add("Cast", rounded, to=_DOUBLE))
        return OnnxVector(self._spell, self._held.astype(np.float32).astype(np.float64))

    def where(self, condition: Condition, otherwise: OnnxVector) -> OnnxVector:
        """The elements of this vector where a condition is true, and those of `otherwise` elsewhere."""
        if isinstance(condition, bool):
            return self if condition else otherwise
        return OnnxVector(self._spell, self._spell.add("Where", condition, self._name(), otherwise._name()))

    def equals(self, other: OnnxVector) -> Condition:
        """The condition that this number equals another."""
        return self._compare("Equal", lambda a, b: a == b, other)

    def at_most(self, other: float) -> Condition:
        """The condition that this number is at most another."""
        return self._compare("LessOrEqual", lambda a, b: a <= b, known(self._spell, other))

    def as_indices(self) -> str:
        """Name of an ONNX value with the numbers as i64, for `Gather`."""
        if isinstance(self._held, str):
            return self._spell.add("Cast", self._held, to=7)  # TensorProto.INT64
        return self._spell.constant(self._held, DType.i64)

    def as_weights(self, dtype: DType, trailing: int) -> str:
        """Name of an ONNX value with the numbers as factors along an axis.

        Args:
            dtype: dtype of the value.
            trailing: number of axes after that axis.
        """
        if not isinstance(self._held, str):
            return self._spell.constant(self._held.reshape(-1, *[1] * trailing), dtype)
        cast = self._held if dtype is DType.f64 else self._spell.add("Cast", self._held, to=_SINGLE)
        if not trailing:
            return cast
        return self._spell.add("Unsqueeze", cast, self._spell.constant(list(range(1, trailing + 1))))

    def _binary(self, op_type: str, compute: Callable[[Any, Any], Any], other: OnnxVector | float) -> OnnxVector:
        right = other if isinstance(other, OnnxVector) else known(self._spell, other)
        if isinstance(self._held, str) or isinstance(right._held, str):
            return OnnxVector(self._spell, self._spell.add(op_type, self._name(), right._name()))
        return OnnxVector(self._spell, compute(self._held, right._held))

    def _compare(self, op_type: str, compute: Callable[[Any, Any], Any], right: OnnxVector) -> Condition:
        if isinstance(self._held, str) or isinstance(right._held, str):
            return self._spell.add(op_type, self._name(), right._name())
        return bool(compute(self._held, right._held))

    def _name(self) -> str:
        return self._held if isinstance(self._held, str) else self._spell.constant(self._held, DType.f64)


Condition = bool | str
"""A truth value: a bool if it is known, else the name of a value of the ONNX graph."""


def known(spell: OnnxSpelling, number: float) -> OnnxVector:
    """A known number as an `OnnxVector`."""
    import numpy as np

    return OnnxVector(spell, np.asarray(number, np.float64))


def size(spell: OnnxSpelling, dim: int | SymbolicDim) -> OnnxVector:
    """Size of an axis, as a number."""
    if isinstance(dim, int):
        return known(spell, dim)
    return OnnxVector(spell, spell.add("Cast", spell.size(dim), to=_DOUBLE))


def counting(spell: OnnxSpelling, length: int | SymbolicDim) -> OnnxVector:
    """The numbers 0, 1, 2, … below a size."""
    import numpy as np

    if isinstance(length, int):
        return OnnxVector(spell, np.arange(length, dtype=np.float64))
    numbers = spell.add("Range", spell.constant(0), spell.size(length), spell.constant(1))
    return OnnxVector(spell, spell.add("Cast", numbers, to=_DOUBLE))
