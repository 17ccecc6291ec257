"""Parameters and buffers as operators declare them, and how fresh ones are made.

An operator names an initializer by the indices of its signature (`kaiming_uniform("i", "kh", "kw")`), and the
extents of those indices, once known, make it the concrete one of `archc.weights.initializers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from archc.types.tensor_type import DType
from archc.weights import initializers

InitializerFor = Callable[[Mapping[str, Any]], initializers.Initializer]
"""Makes an initializer from the extents of a signature's indices."""


@dataclass(frozen=True)
class Parameter:
    """An operand that the operator owns.

    Attributes:
        initializer: how a fresh one is made.
        trainable: False for a buffer, such as a running mean.
        dtype: where it is not that of the data.
        when: the boolean attribute that switches it; by default the one of its own name.
        optional_in_files: a weights file may lack it (a counter that inference does not need).
    """

    initializer: InitializerFor
    trainable: bool = True
    dtype: DType | None = None
    when: str | None = None
    optional_in_files: bool = False


def kaiming_uniform(*fan_in: str) -> InitializerFor:
    """The initializer of PyTorch's linear and convolution weights; the indices' product is the fan-in."""
    return lambda sizes: initializers.KaimingUniform(fan_in=_product(sizes, fan_in))


def uniform_fan_in(*fan_in: str) -> InitializerFor:
    """The initializer of PyTorch's linear and convolution biases."""
    return lambda sizes: initializers.UniformFanIn(fan_in=_product(sizes, fan_in))


def normal(mean: float = 0.0, std: float = 1.0) -> InitializerFor:
    """Normally distributed values."""
    return lambda sizes: initializers.Normal(mean, std)


def zeros(sizes: Mapping[str, Any]) -> initializers.Initializer:
    """All zeros."""
    return initializers.ZerosInitializer()


def ones(sizes: Mapping[str, Any]) -> initializers.Initializer:
    """All ones."""
    return initializers.OnesInitializer()


def constant(value: float) -> InitializerFor:
    """One value everywhere."""
    return lambda sizes: initializers.ConstantInitializer(value)


def _product(sizes: Mapping[str, Any], indices: tuple[str, ...]) -> int:
    return math.prod(sizes[name] for name in indices)
