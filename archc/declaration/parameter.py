"""Declarations of parameters and buffers, and of their initializers.

An operator declares an initializer in terms of the indices of its signature (`kaiming_uniform("i", "kh", "kw")`).  The
extents of these indices determine the concrete initializer of `archc.weights.initializers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from archc.frozen_dataclass import frozen_dataclass
from archc.types.tensor_type import DType
from archc.weights import initializers

InitializerFor = Callable[[Mapping[str, Any]], initializers.Initializer]
"""Function from the extents of a signature's indices to an initializer."""


@frozen_dataclass
class Parameter:
    """A weight or buffer: an operand of the signature, with a tensor that the operator owns.

    Attributes:
        initializer: the initializer of a fresh parameter.
        trainable: False for a buffer, such as a running mean.
        dtype: the dtype of the parameter; None for the dtype of the data.
        when: the boolean attribute that enables the parameter; by default the attribute with the parameter's name, if
            it exists.
        optional_in_files: True if a weights file may omit the parameter, for example a counter that inference
            does not need.
    """

    initializer: InitializerFor
    trainable: bool = True
    dtype: DType | None = None
    when: str | None = None
    optional_in_files: bool = False


def kaiming_uniform(*fan_in: str) -> InitializerFor:
    """Initializer of PyTorch's linear and convolution weights, for a fan-in that is a product of extents."""
    return lambda sizes: initializers.KaimingUniform(fan_in=_product(sizes, fan_in))


def uniform_fan_in(*fan_in: str) -> InitializerFor:
    """Initializer of PyTorch's linear and convolution biases, for a fan-in that is a product of extents."""
    return lambda sizes: initializers.UniformFanIn(fan_in=_product(sizes, fan_in))


def normal(mean: float = 0.0, std: float = 1.0) -> InitializerFor:
    """Initializer with normally distributed values."""
    return lambda sizes: initializers.Normal(mean, std)


def zeros(sizes: Mapping[str, Any]) -> initializers.Initializer:
    """Initializer with zeros."""
    return initializers.ZerosInitializer()


def ones(sizes: Mapping[str, Any]) -> initializers.Initializer:
    """Initializer with ones."""
    return initializers.OnesInitializer()


def constant(value: float) -> InitializerFor:
    """Initializer with one value."""
    return lambda sizes: initializers.ConstantInitializer(value)


def _product(sizes: Mapping[str, Any], indices: tuple[str, ...]) -> int:
    return math.prod(sizes[name] for name in indices)
