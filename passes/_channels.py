"""Multiplying and adding up channels of a weight, wherever its signature has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from archc.ir.graph import Node
from archc.types.extent_solver import Solution
from archc.types.signature import Axis, Index, Pattern

Array = npt.NDArray[Any]


class Channels:
    """The channels of a layer's result or operand (axis 1), and the elements of its weight that belong to each.

    The signature tells: `y[n, g*o, …]` and `weight[g*i, o, …]` share g and o, so channel g·o of a grouped transposed
    convolution belongs to certain elements of two axes of its weight.
    """

    def __init__(self, solution: Solution, of: Pattern):
        self._solution = solution
        self._weight = solution.signature.operand("weight")
        self.axis = of.axes[1]

    @classmethod
    def of_result(cls, node: Node) -> Channels:
        solution = node.op.infer(node.types).solution
        return cls(solution, solution.signature.results[0])

    @classmethod
    def of_operand(cls, node: Node) -> Channels:
        solution = node.op.infer(node.types).solution
        return cls(solution, solution.signature.operands[0])

    @property
    def weighted(self) -> bool:
        """Whether every channel has elements of the weight of its own."""
        inner = _names(self._weight)
        return all(isinstance(f, Index) and f.name in inner for f in self.axis.factors) and len(self.axis.terms) == 1

    def scaled(self, weight: Array, scale: Array) -> Array:
        """The weight with the elements of each channel multiplied by that channel's number."""
        products: Array = self._split(weight) * self._spread(scale)
        return products.reshape(weight.shape)

    def summed(self, weight: Array, numbers: Array, result: Axis) -> Array:
        """For each channel of the result the sum of its weights, each times the number of its channel here."""
        kept = _factor_names(result)
        products: Array = self._split(weight) * self._spread(numbers)
        others = tuple(place for place, name in enumerate(_names(self._weight)) if name not in kept)
        summed: Array = products.sum(axis=others)
        return summed.reshape(-1)

    def _split(self, weight: Array) -> Array:
        return weight.reshape([self._extent(name) for name in _names(self._weight)])

    def _spread(self, vector: Array) -> Array:
        """A number for each channel, with its axes where the split weight has them."""
        own, inner = _factor_names(self.axis), _names(self._weight)
        parts = vector.reshape([self._extent(name) for name in own])
        order = sorted(own, key=inner.index)
        parts = parts.transpose([own.index(name) for name in order])
        return np.ascontiguousarray(parts).reshape([self._extent(name) if name in own else 1 for name in inner])

    def _extent(self, name: str) -> int:
        size = self._solution.extents[name]
        assert isinstance(size, int), "the sizes of weights are known"
        return size


def _names(pattern: Pattern) -> list[str]:
    return [name for axis in pattern.axes for name in _factor_names(axis)]


def _factor_names(axis: Axis) -> list[str]:
    return [factor.name for factor in axis.factors if isinstance(factor, Index)]
