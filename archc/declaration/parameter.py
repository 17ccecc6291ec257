"""Declarations of parameters and buffers, and of their initializers.

An operator declares a parameter of its signature with an initializer.  The arguments of `kaiming_uniform` and
`uniform_fan_in` are indices of the signature.  `zeros` and `ones` are given without a call:

    signature = "x[*b, i], weight[o, i], bias[o]? -> y[*b, o]"
    parameters = {"weight": Parameter(kaiming_uniform("i")), "bias": Parameter(zeros)}
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
        initializer: the initializer of a new parameter, from `archc.declaration.parameter`.
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

    def __post_init__(self) -> None:
        if not callable(self.initializer):
            way = f"constant({self.initializer!r})" if isinstance(self.initializer, (int, float)) else "zeros"
            raise TypeError(
                f"the initializer of an `archc.Parameter` is {self.initializer!r}, which is no function; write"
                f" `archc.Parameter({way})`, with `{way.partition('(')[0]}` of `archc.declaration.parameter`"
            )


def kaiming_uniform(*fan_in: str) -> InitializerFor:
    """Initializer of PyTorch's linear and convolution weights: U(-b, b) with b = 1/√fan_in.

    Args:
        fan_in: indices of the signature; the product of their extents is the fan-in, the number of inputs of an output.
    """
    return lambda sizes: initializers.KaimingUniform(fan_in=_product(sizes, fan_in))


def uniform_fan_in(*fan_in: str) -> InitializerFor:
    """Initializer of PyTorch's linear and convolution biases: U(-b, b) with b = 1/√fan_in.

    Args:
        fan_in: as for `kaiming_uniform`.
    """
    return lambda sizes: initializers.UniformFanIn(fan_in=_product(sizes, fan_in))


def normal(mean: float = 0.0, std: float = 1.0) -> InitializerFor:
    """Initializer with normally distributed values, N(mean, std²)."""
    return lambda sizes: initializers.Normal(mean, std)


def zeros(sizes: Mapping[str, Any]) -> initializers.Initializer:
    """Initializer with zeros, given without a call: `Parameter(zeros)`."""
    return initializers.ZerosInitializer()


def ones(sizes: Mapping[str, Any]) -> initializers.Initializer:
    """Initializer with ones, given without a call: `Parameter(ones)`."""
    return initializers.OnesInitializer()


def constant(value: float) -> InitializerFor:
    """Initializer with one value for all elements."""
    return lambda sizes: initializers.ConstantInitializer(value)


def _product(sizes: Mapping[str, Any], indices: tuple[str, ...]) -> int:
    return math.prod(sizes[name] for name in indices)
