"""Convolutional networks in torch.nn, written from their papers because no installed package has them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(channels: int, kernel: int, stride: int = 1, eps: float = 1e-5) -> nn.Sequential:
    """Build a convolution with half of the kernel size as padding, batch normalization and ReLU."""
    padding = kernel // 2
    return nn.Sequential(
        nn.LazyConv2d(channels, kernel, stride, padding, bias=False), nn.LazyBatchNorm2d(eps=eps), nn.ReLU()
    )


class Branches(nn.Module):
    """Modules with the same input, whose results are concatenated along the channels."""

    def __init__(self, *branches: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


# Rows of table 1 of Szegedy et al. 2015: the columns from "#1×1" to "pool proj", and the poolings between the rows.
GOOGLENET = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    nn.MaxPool2d(3, 2, ceil_mode=True),
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    nn.MaxPool2d(2, 2, ceil_mode=True),
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)


def googlenet(share: int, classes: int, largest: int = 3) -> nn.Module:
    """Build Inception v1 with all numbers of channels divided by `share`."""

    def unit(channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
        return conv(channels // share, kernel, stride, eps=1e-3)

    def inception(one: int, reduce3: int, three: int, reduce5: int, five: int, pooled: int) -> nn.Module:
        return Branches(
            unit(one, 1),
            nn.Sequential(unit(reduce3, 1), unit(three, 3)),
            nn.Sequential(unit(reduce5, 1), unit(five, largest)),
            nn.Sequential(nn.MaxPool2d(3, 1, 1), unit(pooled, 1)),
        )

    stem = [unit(64, 7, 2), nn.MaxPool2d(3, 2, ceil_mode=True), unit(64, 1), unit(192, 3)]
    body = [row if isinstance(row, nn.Module) else inception(*row) for row in GOOGLENET]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.LazyLinear(classes)]
    return nn.Sequential(*stem, nn.MaxPool2d(3, 2, ceil_mode=True), *body, *head)


class UNet(nn.Module):
    """U-Net of Ronneberger et al. 2015, figure 1, for any depth; its inner part is a U-Net of depth - 1."""

    def __init__(self, width: int, depth: int):
        super().__init__()
        self.first = self.pair(width)
        self.inner = UNet(2 * width, depth - 1) if depth > 1 else self.pair(2 * width)
        self.up = nn.LazyConvTranspose2d(width, 2, stride=2)
        self.second = self.pair(width)

    @staticmethod
    def pair(width: int) -> nn.Module:
        return nn.Sequential(conv(width, 3), conv(width, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        below = self.inner(F.max_pool2d(x, 2))
        return self.second(torch.cat([x, self.up(below)], dim=1))


class SSD300(nn.Module):
    """SSD of Liu et al. 2016, figure 2, with VGG-16 as the backbone."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        w, self.classes = width, classes

        def run(*channels: int) -> list[nn.Module]:
            return [module for c in channels for module in (nn.LazyConv2d(c, 3, padding=1), nn.ReLU())]

        def extra(channels: int, **options: int) -> nn.Module:
            narrow = nn.LazyConv2d(channels // 2, 1)
            return nn.Sequential(narrow, nn.ReLU(), nn.LazyConv2d(channels, 3, **options), nn.ReLU())

        pool = nn.MaxPool2d(2, ceil_mode=True)
        self.upper = nn.Sequential(
            *run(w, w), pool, *run(2 * w, 2 * w), pool, *run(4 * w, 4 * w, 4 * w), pool, *run(8 * w, 8 * w, 8 * w)
        )
        self.scale = ChannelLength(8 * w)
        self.lower = nn.Sequential(
            pool,
            *run(8 * w, 8 * w, 8 * w),
            nn.MaxPool2d(3, 1, 1),
            nn.LazyConv2d(16 * w, 3, padding=6, dilation=6),
            nn.ReLU(),
            nn.LazyConv2d(16 * w, 1),
            nn.ReLU(),
        )
        strided = {"stride": 2, "padding": 1}
        self.extras = nn.ModuleList([extra(8 * w, **strided), extra(4 * w, **strided), extra(4 * w), extra(4 * w)])
        boxes = (4, 6, 6, 6, 4, 4)
        self.offsets = nn.ModuleList(nn.LazyConv2d(4 * count, 3, padding=1) for count in boxes)
        self.scores = nn.ModuleList(nn.LazyConv2d(classes * count, 3, padding=1) for count in boxes)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.upper(image)
        maps = [self.scale(x), self.lower(x)]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        offsets, scores = [], []
        for x, to_offsets, to_scores in zip(maps, self.offsets, self.scores, strict=True):
            offsets.append(to_offsets(x).permute(0, 2, 3, 1).reshape(len(x), -1, 4))
            scores.append(to_scores(x).permute(0, 2, 3, 1).reshape(len(x), -1, self.classes))
        return torch.cat(offsets, dim=1), torch.cat(scores, dim=1)


class ChannelLength(nn.Module):
    """L2 normalization over the channels, with a learned scale: Liu et al. 2015 (ParseNet).

    The scale of a channel is its weight times the square root of the number of channels.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * len(self.weight) ** 0.5
        return F.normalize(x, dim=1) * scale[:, None, None]


def net(classes: int = 10) -> nn.Module:
    """Build the first network of the course: convolutions with padding."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )


def cnn(classes: int = 10) -> nn.Module:
    """Build the classifier of the course: as `net`, without padding."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 5 * 5, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )


def lenet5(classes: int = 10) -> nn.Module:
    """Build LeNet-5 of LeCun et al. 1998, figure 2.

    Images are padded from 28 to 32 pixels, the size in the paper, and the poolings have no weights.
    """
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.Tanh(),
        nn.Linear(120, 84),
        nn.Tanh(),
        nn.Linear(84, classes),
    )
