"""Gradients of random combinations of a model's outputs."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from archc.interpreter.evaluate import evaluate_all
from archc.ir.graph import Graph, Value

if TYPE_CHECKING:
    import torch


def output_gradients(
    outputs: Sequence[torch.Tensor], watched: Sequence[torch.Tensor], draws: int, generator: torch.Generator
) -> Iterator[tuple[torch.Tensor | None, ...]]:
    """Yield the gradients of ⟨v, outputs⟩ with respect to tensors, for Gaussian v.

    Every output is divided by its norm and multiplied by the root of the number of samples.  So for a small change δ of
    the tensors, the expected square of Σ⟨gradient, δ⟩ is the squared error of the outputs relative to their mean
    squares, summed over the outputs, times `sample_count`.  Elements of outputs that are infinite or NaN, such as
    masked logits, have no part.  A gradient is None if the outputs do not depend on the tensor.
    """
    import torch

    samples = sample_count(outputs)
    finite = [output.detach().isfinite() for output in outputs]
    scales = [_scale(output.detach(), counts, samples) for output, counts in zip(outputs, finite)]
    for draw in range(draws):
        directions = [
            (torch.randn(output.shape, generator=generator) * counts / scale).to(output.dtype)
            for output, counts, scale in zip(outputs, finite, scales)
        ]
        yield torch.autograd.grad(outputs, watched, directions, retain_graph=draw + 1 < draws, allow_unused=True)


def watched_run(
    graph: Graph, batch: Mapping[str, torch.Tensor], wanted: Container[Value]
) -> tuple[list[torch.Tensor], dict[Value, torch.Tensor]]:
    """Outputs and wanted values of a run, connected by gradients.

    Only floating-point values are returned, and only outputs that depend on one of them.
    """
    found: dict[Value, torch.Tensor] = {}

    def watch(value: Value, tensor: torch.Tensor) -> torch.Tensor:
        if value in wanted and tensor.is_floating_point():
            tensor = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
            found[value] = tensor
        return tensor

    outputs = [
        tensor
        for value, tensor in evaluate_all(graph, batch, change=watch, gradients=True)
        if graph.is_output(value) and tensor.requires_grad
    ]
    return outputs, found


def sample_count(outputs: Sequence[torch.Tensor]) -> int:
    """Number of samples; an output without an axis of samples, such as a scalar, has one of its own."""
    return max((len(output) for output in outputs if output.ndim), default=1) or 1


def _scale(output: torch.Tensor, finite: torch.Tensor, samples: int) -> float:
    """Root of the squared norm by the number of samples; 1 if it is zero.

    It is in f64, since squares of f16 are infinite from 256 on.
    """
    count = int(finite.sum()) or 1
    mean_square = float(output[finite].double().square().sum()) / count
    return math.sqrt(mean_square * output.numel() / samples) or 1.0
