"""Channels of a layer's result or operand, with the weight elements of each channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from archc.ir.graph import Node
from archc.types.extent_solver import Solution
from archc.types.signature import Axis, Index, Pattern

Array = npt.NDArray[Any]


class Channels:
    """Channels of a layer's result or operand, with the weight elements of each.

    The signature tells which weight elements belong to a channel.  For example, a grouped transposed convolution has
    `y[n, g*o, …]` and `weight[g*i, o, …]`.  Both have the indices g and o, which are on different axes of the weight.
    """

    def __init__(self, solution: Solution, axis: Axis):
        self._solution = solution
        self._weight = solution.signature.operand("weight")
        self.axis = axis

    @classmethod
    def of_result(cls, node: Node, position: int = 1) -> Channels:
        """Channels of the result of a node, which are the axis at a position."""
        solution = node.op.infer(node.types).solution
        return cls(solution, solution.signature.results[0].axes[position])

    @classmethod
    def of_operand(cls, node: Node, position: int = 1) -> Channels:
        """Channels of the first operand of a node, which are the axis at a position."""
        solution = node.op.infer(node.types).solution
        return cls(solution, solution.signature.operands[0].axes[position])

    @property
    def weighted(self) -> bool:
        """True if every channel has its own elements of the weight."""
        inner = _names(self._weight)
        return all(isinstance(f, Index) and f.name in inner for f in self.axis.factors) and len(self.axis.terms) == 1

    def scaled(self, weight: Array, scale: Array) -> Array:
        """Multiply the weight elements of each channel by the channel's scale."""
        products: Array = self._split(weight) * self._spread(scale)
        return products.reshape(weight.shape)

    def summed(self, weight: Array, numbers: Array, result: Axis) -> Array:
        """Multiply weight elements by the `numbers` of their channels; sum the products per result channel.

        Args:
            numbers: one number for each channel.
            result: the axis of the result channels.
        """
        kept = _factor_names(result)
        products: Array = self._split(weight) * self._spread(numbers)
        others = tuple(place for place, name in enumerate(_names(self._weight)) if name not in kept)
        summed: Array = products.sum(axis=others)
        return summed.reshape(-1)

    def largest(self, weight: Array) -> Array:
        """Largest absolute value of the weight elements of each channel."""
        own, inner = _factor_names(self.axis), _names(self._weight)
        others = tuple(place for place, name in enumerate(inner) if name not in own)
        largest: Array = np.abs(self._split(weight)).max(axis=others)
        order = sorted(own, key=inner.index)
        return largest.transpose([order.index(name) for name in own]).reshape(-1)

    def _split(self, weight: Array) -> Array:
        return weight.reshape([self._extent(name) for name in _names(self._weight)])

    def _spread(self, vector: Array) -> Array:
        """Reshape a vector with a number per channel for broadcasting with the split weight."""
        own, inner = _factor_names(self.axis), _names(self._weight)
        parts = vector.reshape([self._extent(name) for name in own])
        order = sorted(own, key=inner.index)
        parts = parts.transpose([own.index(name) for name in order])
        return np.ascontiguousarray(parts).reshape([self._extent(name) if name in own else 1 for name in inner])

    def _extent(self, name: str) -> int:
        size = self._solution.extents[name]
        assert isinstance(size, int), "weights have constant sizes"
        return size


def _names(pattern: Pattern) -> list[str]:
    return [name for axis in pattern.axes for name in _factor_names(axis)]


def _factor_names(axis: Axis) -> list[str]:
    return [factor.name for factor in axis.factors if isinstance(factor, Index)]


def keeps_axis(node: Node, position: int) -> bool:
    """Return whether an axis is the same in the first operand and in the only result of a node."""
    signature = node.op.infer(node.types).solution.signature
    patterns = (signature.operands[0], *signature.results)
    if len(patterns) != 2 or any(len(pattern.axes) <= position for pattern in patterns):
        return False
    before, after = (pattern.axes[position].index for pattern in patterns)
    return before is not None and before == after
