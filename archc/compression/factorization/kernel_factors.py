"""Factors of the kernel of a convolution, in a norm that is a product of one metric for each axis.

A metric M = R Rᵀ of an axis multiplies the kernel by Rᵀ along this axis.  With the effect of the results on the outputs
of the model, the second moments of the input channels, and the autocorrelations along the axes of the kernel, the norm
of an error is an approximation of the expected squared error of the outputs: the second moments of a window of the
operand are taken for the product of those of its axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from archc.compression.factorization.low_rank import Array, MetricRoot, Svd
from archc.declaration.base import Operator
from archc.declaration.kernel_forms import KernelForm

if TYPE_CHECKING:
    import torch

ROUNDS = 10
"""Most rounds of the iteration for Tucker-2."""
SMALL_GAIN = 1e-5
"""Gain of a round, relative to the squared norm of the kernel, below which the iteration ends."""


@dataclass(frozen=True)
class KernelMetric:
    """Metrics of the axes of a kernel; None for the identity.

    Attributes:
        outputs: [outputs, outputs], or its diagonal.
        inputs: [inputs, inputs].
        kernel: [size, size] for each axis of the kernel; empty for identities.
    """

    outputs: torch.Tensor | None = None
    inputs: torch.Tensor | None = None
    kernel: Sequence[torch.Tensor] = ()


class WhitenedKernel:
    """The kernel of one group of a convolution, in the norm of a metric.

    Args:
        kernel: [outputs, inputs, *kernel], finite.

    Attributes:
        dtype: that of the kernel.
    """

    def __init__(self, kernel: Array, metric: KernelMetric | None = None):
        self.dtype = kernel.dtype
        metric = metric or KernelMetric()
        axes = (metric.outputs, metric.inputs, *(metric.kernel or (None,) * (kernel.ndim - 2)))
        self._roots = [MetricRoot(each) for each in axes]
        self._values = kernel.astype(np.float64)
        self._spectra: dict[tuple[int, ...], Array] = {}
        for axis, root in enumerate(self._roots):
            self._values = _along(root.times, self._values, axis)

    @cached_property
    def total(self) -> float:
        """Squared norm of the kernel."""
        return float(np.square(self._values).sum())

    def spectra(self, form: KernelForm) -> list[Array]:
        """For each rank of a form, the squared singular values, the largest first.

        The squared error of ranks is the sum of the discarded squares.  For Tucker-2, this is an upper bound
        (De Lathauwer et al. 2000, "A Multilinear Singular Value Decomposition", property 10).
        """
        every = tuple(range(self._values.ndim - 2))
        return [self._spectrum(form.axes[0])] if form.links == 1 else [self._spectrum(()), self._spectrum(every)]

    def _spectrum(self, axes: tuple[int, ...]) -> Array:
        """Squared singular values of the matrix of two factors, the first one with these axes of the kernel."""
        import torch

        if axes not in self._spectra:
            matrix = torch.from_numpy(np.ascontiguousarray(self._matrix([1, *(axis + 2 for axis in axes)])))
            gram = matrix @ matrix.T if matrix.shape[0] < matrix.shape[1] else matrix.T @ matrix
            self._spectra[axes] = torch.linalg.eigvalsh(gram).flip(0).clamp(min=0).numpy()
        return self._spectra[axes]

    def factors(self, form: KernelForm, ranks: Sequence[int]) -> list[Array]:
        """The kernels of a form, [outputs, inputs, *kernel], with size 1 along the axes that they do not have."""
        factors = self._pair(form, ranks[0]) if form.links == 1 else self._tucker(*ranks)
        whitened = {(0, 1), (len(factors) - 1, 0)}  # inputs of the first one, outputs of the last one
        for number, axes in enumerate(form.axes):
            whitened |= {(number, axis + 2) for axis in axes}
        for number, axis in whitened:
            factors[number] = _along(self._roots[axis].solve, factors[number], axis)
        return balanced(factors)

    def _matrix(self, first: Sequence[int]) -> Array:
        """The kernel as [(axes of the second factor), (axes of the first factor)]."""
        second = [axis for axis in range(self._values.ndim) if axis not in first]
        shape = self._values.shape
        rows = int(np.prod([shape[axis] for axis in second]))
        return self._values.transpose([*second, *first]).reshape(rows, -1)

    def _pair(self, form: KernelForm, rank: int) -> list[Array]:
        """Two kernels by a truncated singular value decomposition, which is optimal."""
        first, second = _axes_of_pair(form)
        svd = Svd.of(self._matrix(first))
        shape = self._values.shape
        sizes = [[size if axis + 2 in axes else 1 for axis, size in enumerate(shape[2:])] for axes in (first, second)]
        right = svd.right[:, :rank].T.reshape(rank, shape[1], *sizes[0])
        left = svd.left[:, :rank].reshape(shape[0], *(shape[axis] for axis in second[1:]), rank)
        return [right, np.moveaxis(left, -1, 1).reshape(shape[0], rank, *sizes[1])]

    def _tucker(self, inputs: int, outputs: int) -> list[Array]:
        """Three kernels by higher-order orthogonal iteration.

        In each round, the bases of the input and output channels are optimal for one another, so the error is at most
        that of the truncated singular values of both axes, with which the iteration begins (De Lathauwer et al. 2000,
        "On the Best Rank-1 and Rank-(R1, R2, ..., RN) Approximation of Higher-Order Tensors").
        """
        kernel, norm = self._values.shape[2:], 0.0
        values = self._values.reshape(*self._values.shape[:2], -1)
        left = _basis(values, 0, outputs)
        for _ in range(ROUNDS):
            right = _basis(_projected(values, left, 0), 1, inputs)
            projected = _projected(values, right, 1)
            left = _basis(projected, 0, outputs)
            core = _projected(projected, left, 0)
            before, norm = norm, float(np.square(core).sum())
            if norm - before <= SMALL_GAIN * self.total:
                break
        ones = [1] * len(kernel)
        return [
            right.T.reshape(inputs, -1, *ones),
            core.reshape(outputs, inputs, *kernel),
            left.reshape(-1, outputs, *ones),
        ]


def kernel_shape(op: Operator, weight: Sequence[int]) -> tuple[int, ...]:
    """Shape of `Operator.kernel_tensor` for a shape of the weight."""
    return op.kernel_tensor(np.empty(tuple(weight), bool)).shape


def composed(factors: Sequence[Array]) -> Array:
    """The kernel [outputs, inputs, *kernel] of convolutions in sequence, in f64.

    Along each axis of the kernel, at most one of them is longer than 1.
    """
    whole = factors[0].astype(np.float64)
    for factor in factors[1:]:
        product = np.moveaxis(factor.astype(np.float64), (0, 1), (-2, -1)) @ np.moveaxis(whole, (0, 1), (-2, -1))
        whole = np.moveaxis(product, (-2, -1), (0, 1))
    return whole


def balanced(factors: Sequence[Array]) -> list[Array]:
    """Factors with the same product, such that both kernels at a channel between them have the same norm.

    Otherwise, int8 weights with one scale for each output channel would lose the small ones (`Svd.factors`).
    """
    found = list(factors)
    for number in range(len(found) - 1):
        first, second = found[number], found[number + 1]
        norms = [np.linalg.norm(_unfolded(each, axis), axis=1) for each, axis in ((first, 0), (second, 1))]
        scale = np.sqrt(norms[1] / np.where(norms[0] > 0, norms[0], 1))
        ones = [1] * (first.ndim - 2)
        found[number] = first * scale.reshape(-1, 1, *ones)
        found[number + 1] = second / np.where(scale > 0, scale, 1).reshape(1, -1, *ones)
    return found


def _axes_of_pair(form: KernelForm) -> tuple[list[int], list[int]]:
    """Axes of the kernel tensor in the first and in the second factor."""
    return [1, *(axis + 2 for axis in form.axes[0])], [0, *(axis + 2 for axis in form.axes[1])]


def _unfolded(tensor: Array, axis: int) -> Array:
    """A tensor as a matrix [axis, all other axes]."""
    return np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)


def _along(function: Callable[[Array], Array], tensor: Array, axis: int) -> Array:
    """A tensor whose `axis` was mapped by a linear function of matrices [axis, columns]."""
    rest = np.moveaxis(tensor, axis, 0).shape[1:]
    mapped = function(np.ascontiguousarray(_unfolded(tensor, axis)))
    return np.moveaxis(mapped.reshape(-1, *rest), 0, axis)


def _projected(tensor: Array, basis: Array, axis: int) -> Array:
    """A tensor in coordinates of orthonormal vectors [axis, rank] along an axis."""
    return _along(lambda matrix: basis.T @ matrix, tensor, axis)


def _basis(tensor: Array, axis: int, rank: int) -> Array:
    """Leading left singular vectors of an unfolded tensor, [axis, rank]."""
    import torch

    matrix = torch.from_numpy(np.ascontiguousarray(_unfolded(tensor, axis)))
    vectors: Array = torch.linalg.eigh(matrix @ matrix.T).eigenvectors.flip(1)[:, :rank].numpy()
    return vectors
