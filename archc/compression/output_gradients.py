"""Gradients of random combinations of a model's outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def output_gradients(
    outputs: Sequence[torch.Tensor], watched: Sequence[torch.Tensor], draws: int, generator: torch.Generator
) -> Iterator[tuple[torch.Tensor | None, ...]]:
    """Yield the gradients of ⟨v, outputs⟩ with respect to tensors, for Gaussian v.

    Every output is divided by its root mean square and by the root of its number of elements in a sample.  So for a
    small change δ of the tensors, the expected square of Σ⟨gradient, δ⟩ is the squared error of the outputs relative to
    their mean squares, summed over the outputs and the samples.  A gradient is None if the outputs do not depend on the
    tensor.
    """
    import torch

    scales = [float(output.detach().square().mean().sqrt()) or 1.0 for output in outputs]
    for draw in range(draws):
        directions = [
            torch.randn(output.shape, generator=generator).to(output.dtype)
            / (scale * (output[0].numel() if output.ndim else 1) ** 0.5)
            for output, scale in zip(outputs, scales)
        ]
        yield torch.autograd.grad(outputs, watched, directions, retain_graph=draw + 1 < draws, allow_unused=True)
