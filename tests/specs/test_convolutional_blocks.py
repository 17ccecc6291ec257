"""Convolutional blocks of the library that no spec uses, compared with torch.nn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.specs.twins import twins


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation block of Hu et al. 2018, equations 2 to 4."""

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1)
        self.excite = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = nn.functional.adaptive_avg_pool2d(x, 1)
        return torch.sigmoid(self.excite(torch.relu(self.squeeze(z)))) * x


def separable(kernel: int, stride: int) -> nn.Module:
    """Build a separable convolution (two rows of table 1 of Howard et al. 2017) from 8 to 12 channels."""
    return nn.Sequential(
        nn.Conv2d(8, 8, kernel, stride, kernel // 2, groups=8, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
    )


@pytest.mark.parametrize(
    ("file", "use", "reference"),
    [
        ("squeeze_excitation", "SqueezeExcitation(reduction = 4)", SqueezeExcitation(8, 4)),
        ("separable", "SeparableConv(12, 3)", separable(3, 1)),
        ("separable", "SeparableConv(12, 5, stride = 2)", separable(5, 2)),
    ],
)
def test_a_block_computes_what_its_reference_does(file: str, use: str, reference: nn.Module, tmp_path: Path) -> None:
    text = f'import "std/{file}.arch" as std\nmodel m {{ input x: f32[N, 8, H, W]  output y = x -> std.{use} }}'
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(shape, generator=generator) for shape in ((3, 8, 6, 7), (2, 8, 9, 5))]
    both = twins(text, {}, reference, images[:1], tmp_path)
    for image in images:
        both.agree(image)
