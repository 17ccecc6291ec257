"""Layers of `torch.nn` whose weight has a mask.

`MaskedLinear(1600, 128)` has the parameters of `nn.Linear(1600, 128)` and a buffer
`weight_mask`.  The layer computes with the product of weight and mask, so
masked elements are zero and receive no gradient.
"""

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "MaskedConv1d",
    "MaskedConv2d",
    "MaskedConv3d",
    "MaskedConvTranspose1d",
    "MaskedConvTranspose2d",
    "MaskedConvTranspose3d",
    "MaskedEmbedding",
    "MaskedLinear",
]


class MaskedConv1d(nn.Conv1d):
    """`nn.Conv1d` with a mask on its weight.

    Masked elements are zero, and stay zero in training.
    """

    if TYPE_CHECKING:
        weight_mask: Tensor

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        mask = torch.ones_like(self.weight, dtype=torch.bool)
        self.register_buffer("weight_mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.weight_mask
        return self._conv_forward(x, weight, self.bias)


class MaskedConv2d(nn.Conv2d):
    """`nn.Conv2d` with a mask on its weight.

    Masked elements are zero, and stay zero in training.
    """

    if TYPE_CHECKING:
        weight_mask: Tensor

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        mask = torch.ones_like(self.weight, dtype=torch.bool)
        self.register_buffer("weight_mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.weight_mask
        return self._conv_forward(x, weight, self.bias)


class MaskedConv3d(nn.Conv3d):
    """`nn.Conv3d` with a mask on its weight.

    Masked elements are zero, and stay zero in training.
    """

    if TYPE_CHECKING:
        weight_mask: Tensor

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        mask = torch.ones_like(self.weight, dtype=torch.bool)
        self.register_buffer("weight_mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.weight_mask
        return self._conv_forward(x, weight, self.bias)


class MaskedConvTranspose1d(nn.ConvTranspose1d):
    """`nn.ConvTranspose1d` with a mask on its weight.

    Masked elements are zero, and stay zero in training.
    """

    if TYPE_CHECKING:
        weight_mask: Tensor
        padding: tuple[int, ...]

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        mask = torch.ones_like(self.weight, dtype=torch.bool)
        self.register_buffer("weight_mask", mask)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        weight = self.weight * self.weight_mask
        return F.conv_transpose1d(
            x,
            weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )


class MaskedConvTranspose2d(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` with a mask on its weight.

    Masked elements are zero, and stay zero in training.
    """

    if TYPE_CHECKING:
        weight_mask: Tensor
        padding: tuple[int, ...]

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        mask = torch.ones_like(self.weight, dtype=torch.bool)
        self.register_buffer("weight_mask", mask)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        weight = self.weight * self.weight_mask
        return F.conv_transpose2d(
            x,
            weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )


class MaskedConvTranspose3d(nn.ConvTranspose3d):
    """`nn.ConvTranspose3d` with a mask on its weight.

    Masked elements are zero, and stay zero in training.
    """

    if TYPE_CHECKING:
        weight_mask: Tensor
        padding: tuple[int, ...]

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        mask = torch.ones_like(self.weight, dtype=torch.bool)
        self.register_buffer("weight_mask", mask)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        weight = self.weight * self.weight_mask
        return F.conv_transpose3d(
            x,
            weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )


class MaskedEmbedding(nn.Embedding):
    """`nn.Embedding` with a mask on its weight.

    Masked elements are zero, and stay zero in training.
    """

    if TYPE_CHECKING:
        weight_mask: Tensor

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        mask = torch.ones_like(self.weight, dtype=torch.bool)
        self.register_buffer("weight_mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.weight_mask
        return F.embedding(x, weight)


class MaskedLinear(nn.Linear):
    """`nn.Linear` with a mask on its weight.

    Masked elements are zero, and stay zero in training.
    """

    if TYPE_CHECKING:
        weight_mask: Tensor

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        mask = torch.ones_like(self.weight, dtype=torch.bool)
        self.register_buffer("weight_mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.weight_mask
        return F.linear(x, weight, self.bias)
