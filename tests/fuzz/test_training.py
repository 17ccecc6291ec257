"""Tolerances of the comparison of two modules in training."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.fuzz.training import compare_training

Term = Callable[[Tensor], Tensor]


class Sum(nn.Module):
    """The sum of 1000 v and a term of x that is zero except for rounding."""

    def __init__(self, term: Term):
        super().__init__()
        self.term = term

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        return 1000 * v + self.term(x)


@pytest.mark.parametrize(
    ("term", "verdict"),
    [
        (lambda x: x * 1000 - (x * 300 + x * 700), "equal"),  # the terms of the gradient cancel
        (lambda x: x - x.detach(), "mismatch"),  # the gradient of x is that of the sum
    ],
)
def test_rounding_errors_of_a_zero_gradient_are_no_mismatch(term: Term, verdict: str) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = {name: torch.randn(16, generator=generator) for name in ("x", "v")}
    found, detail = compare_training(Sum(lambda x: 0 * x), Sum(term), inputs)
    assert found == verdict, detail
