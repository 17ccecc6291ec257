"""Ranks of the forms of a convolution, with their cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from archc.analysis.cost import NodeCosts
from archc.analysis.layers import Layer
from archc.compression.factorization.kernel_factors import kernel_shape
from archc.declaration.kernel_forms import KernelForm

MOST_STEPS = 24
"""Most ranks of a tensor between two convolutions among which a budget chooses."""


@dataclass(frozen=True)
class KernelRanks:
    """A form, and the rank of each tensor between its convolutions: the number of channels in a group."""

    form: KernelForm
    ranks: tuple[int, ...]

    def __str__(self) -> str:
        ranks = " and ".join(map(str, self.ranks))
        return f"{self.form.name}, rank{'s' * (len(self.ranks) > 1)} {ranks}"


@dataclass(frozen=True)
class KernelCosts:
    """Cost of the convolutions of a form.

    A convolution costs its number for rank 1 times the ranks before and after it.

    Attributes:
        groups: number of groups of channels.
        full: largest useful ranks.
        parameters, work: parameters, and multiply-adds of all uses of the layer, of each convolution at rank 1.
        elements: elements of each tensor between two convolutions at rank 1, over all uses.
    """

    form: KernelForm
    groups: int
    full: tuple[int, ...]
    parameters: tuple[int, ...]
    work: tuple[int, ...]
    elements: tuple[int, ...]

    def parameters_at(self, ranks: Sequence[int]) -> int:
        """Elements of the weights of all convolutions."""
        return _scaled(self.parameters, ranks)

    def multiply_adds_at(self, ranks: Sequence[int]) -> int:
        """Multiply-adds of all convolutions."""
        return _scaled(self.work, ranks)

    def elements_at(self, ranks: Sequence[int]) -> int:
        """Elements of all tensors between the convolutions."""
        return sum(count * rank for count, rank in zip(self.elements, ranks, strict=True))

    def choices(self, step: int) -> list[KernelRanks]:
        """Ranks for which the number of channels is a multiple of `step`, below the full ones."""
        least = step // math.gcd(step, self.groups)
        axes = []
        for full in self.full:
            coarse = least * max(1, -(-full // (least * MOST_STEPS)))
            axes.append(range(coarse, full, coarse))
        return [KernelRanks(self.form, ranks) for ranks in product(*axes)]


def kernel_costs(layer: Layer, weight: Sequence[int], costs: NodeCosts) -> dict[str, KernelCosts]:
    """The forms of a layer by name; none if it is no convolution.

    Args:
        weight: shape of the weight.
    """
    forms = layer.op.kernel_forms()
    shape = kernel_shape(layer.op, weight) if forms else ()
    return {form.name: _costs(layer, form, shape, costs) for form in forms}


def _costs(layer: Layer, form: KernelForm, shape: Sequence[int], costs: NodeCosts) -> KernelCosts:
    groups, outputs, inputs, *kernel = shape
    last = len(form.axes) - 1
    sizes = [math.prod(kernel[axis] for axis in axes) for axes in form.axes]
    parameters = [
        groups * size * (inputs if number == 0 else 1) * (outputs if number == last else 1)
        for number, size in enumerate(sizes)
    ]
    chain = layer.op.kernel_chain(form, (1,) * form.links)
    steps = [costs.steps_of(node, chain) for node in layer.nodes]
    work = tuple(sum(own[number][0] for own in steps) for number in range(len(chain)))
    elements = tuple(sum(own[number][1] for own in steps) for number in range(form.links))
    full = (inputs, outputs) if form.links > 1 else (min(inputs * sizes[0], outputs * sizes[1]),)
    return KernelCosts(form, groups, full, tuple(parameters), work, elements)


def _scaled(counts: Sequence[int], ranks: Sequence[int]) -> int:
    around = [1, *ranks, 1]
    return sum(count * around[number] * around[number + 1] for number, count in enumerate(counts))
