"""Convolutions in sequence that replace one, with their kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from archc.compression.calibration.sequential import Approximation, LayerProblem, Product, Solver
from archc.compression.factorization.kernel_factors import KernelMetric, WhitenedKernel, balanced, composed
from archc.compression.factorization.low_rank import Array
from archc.declaration.base import Operator
from archc.declaration.kernel_forms import KernelForm
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from archc.ir.rewriter import Rewriter
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from archc.weights.tensor import ArrayTensor, Weights

if TYPE_CHECKING:
    import torch

MOST_REFITTED = 4096
"""Number of columns of a kernel, input channels times elements, up to which it is refitted."""


@dataclass(frozen=True)
class KernelChain:
    """Convolutions in sequence, with their kernels in the dtype of the weight.

    Attributes:
        op: the convolution that they replace.
        form, ranks: their form, and the channels between them in each group.
        parts: the convolutions.
        kernels: their kernels, [groups, outputs, inputs, *kernel].
        loss: expected squared error of the outputs, relative to their mean squares; None if it is not known.
    """

    op: Operator
    form: KernelForm
    ranks: tuple[int, ...]
    parts: Sequence[Operator]
    kernels: Sequence[Array]
    loss: float | None = None

    @classmethod
    def of(cls, op: Operator, groups: Sequence[WhitenedKernel], form: KernelForm, ranks: Sequence[int]) -> KernelChain:
        """The convolutions of a form whose product is near to the kernel of each group of channels."""
        found = [group.factors(form, ranks) for group in groups]
        kernels = [np.stack(each).astype(groups[0].dtype) for each in zip(*found, strict=True)]
        return cls(op, form, tuple(ranks), op.kernel_chain(form, ranks), kernels)

    @property
    def weights(self) -> list[Array]:
        """The weight of each convolution."""
        return [part.kernel_weight(kernel) for part, kernel in zip(self.parts, self.kernels, strict=True)]

    @property
    def product(self) -> Array:
        """The weight of one convolution that is equal, [first axis, all other axes], from the rounded kernels."""
        whole = self.op.kernel_weight(np.stack([composed(each) for each in zip(*self.kernels, strict=True)]))
        return whole.reshape(len(whole), -1)

    # Refitting ------------------------------------------------------------------------------------------------

    @property
    def _refits_kernel(self) -> bool:
        """True if the last kernel can be refitted: its convolution is a product of rows that are not too wide."""
        columns = int(np.prod(self.kernels[-1].shape[2:]))
        return columns <= MOST_REFITTED and type(self.parts[-1]).weight_rows is not Operator.weight_rows

    @property
    def last_product(self) -> Product:
        """The last product of the chain with a matrix.

        It is the last convolution, or, if this cannot be refitted, an identity after it that mixes the channels of the
        result.
        """
        groups, outputs = self.kernels[-1].shape[:2]
        matrix = self.kernels[-1] if self._refits_kernel else np.stack([np.eye(outputs)] * groups)
        return Product(matrix.reshape(groups * outputs, -1).astype(self.kernels[-1].dtype), self._rows)

    def with_last(self, matrix: Array) -> KernelChain:
        """The chain with another matrix for `last_product`."""
        last = self.kernels[-1]
        groups, outputs = last.shape[:2]
        if self._refits_kernel:
            changed = matrix.reshape(last.shape)
        else:
            changed = np.einsum("gpo,goc...->gpc...", matrix.reshape(groups, outputs, outputs), last)
        kernels = [*self.kernels[:-1], changed.astype(last.dtype)]
        each_group = [balanced(each) for each in zip(*kernels, strict=True)]
        return replace(self, kernels=[np.stack(each).astype(last.dtype) for each in zip(*each_group, strict=True)])

    def _rows(self, x: torch.Tensor) -> torch.Tensor | None:
        """The operand of `last_product`, [groups, rows, columns]."""
        if self._refits_kernel:
            return self.parts[-1].weight_rows(self._result(x, len(self.parts) - 1))
        rows = self.op.result_rows(self._result(x, len(self.parts)))
        return rows.reshape(len(rows), len(self.kernels[-1]), -1).transpose(0, 1)

    def _result(self, x: torch.Tensor, count: int) -> torch.Tensor:
        """The result of the first convolutions, without bias."""
        graph = Graph("chain")
        rewriter = Rewriter(graph)
        dtype = next(each for each in DType if f"torch.{each.torch}" == str(x.dtype))
        value = rewriter.input("x", TensorType(dtype, (symbol("N"), *x.shape[1:])))
        graph.tensors = Weights()
        for number, (part, weight) in enumerate(zip(self.parts[:count], self.weights)):
            node = rewriter.add(part, [value], name=f"part{number}")
            for name, path in node.weights.items():
                values = weight if name == "weight" else np.zeros(graph.weights[path].shape, weight.dtype)
                graph.tensors.set(path, ArrayTensor(values))
            value = node.results[0]
        rewriter.output("y", value)
        return evaluate(graph, {"x": x})["y"]


def whitened_groups(op: Operator, weight: Array, metrics: Sequence[KernelMetric] | None = None) -> list[WhitenedKernel]:
    """The kernel of each group of channels, in the norm of its metric, or in the Frobenius norm."""
    kernels = op.kernel_tensor(weight)
    norms = metrics if metrics is not None else [KernelMetric()] * len(kernels)
    return [WhitenedKernel(kernel, metric) for kernel, metric in zip(kernels, norms, strict=True)]


def chain_refitter(chain: KernelChain) -> Solver[KernelChain]:
    """A solver that replaces the last matrix of a chain by the refitted one (`KernelChain.last_product`)."""

    def solve(problem: LayerProblem) -> Approximation[KernelChain]:
        if problem.target is None:
            return Approximation(chain, None)
        refitted = chain.with_last(problem.target.numpy())
        return Approximation(refitted, problem.target)

    return solve
