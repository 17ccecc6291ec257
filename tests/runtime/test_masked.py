"""Masked layers as modules: masked elements are zero and stay zero."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from archc.runtime import masked

CASES = {
    "Linear": ((6, 4), (3, 6)),
    "Embedding": ((9, 4), (2, 5)),
    "Conv1d": ((4, 6, 3), (2, 4, 9)),
    "Conv2d": ((4, 6, 3), (2, 4, 9, 9)),
    "Conv3d": ((4, 6, 3), (2, 4, 5, 5, 5)),
    "ConvTranspose1d": ((4, 6, 3), (2, 4, 9)),
    "ConvTranspose2d": ((4, 6, 3), (2, 4, 9, 9)),
    "ConvTranspose3d": ((4, 6, 3), (2, 4, 5, 5, 5)),
}


def operand(name: str, shape: tuple[int, ...]) -> Tensor:
    generator = torch.manual_seed(0)
    if name == "Embedding":
        return torch.randint(0, 9, shape, generator=generator)
    return torch.randn(shape, generator=generator)


def test_every_class_has_a_case() -> None:
    assert {f"Masked{name}" for name in CASES} == set(masked.__all__)


@pytest.mark.parametrize("name", CASES)
def test_a_mask_removes_elements_for_good(name: str) -> None:
    arguments, shape = CASES[name]
    layer: nn.Module = getattr(masked, f"Masked{name}")(*arguments)
    plain: nn.Module = getattr(nn, name)(*arguments)
    x = operand(name, shape)
    mask = torch.rand(layer.weight.shape, generator=torch.manual_seed(1)) > 0.5
    assert bool(layer.weight_mask.all()), "a fresh layer has the whole weight"
    layer.weight_mask.copy_(mask)
    plain.load_state_dict(
        {
            name: value * mask if name == "weight" else value
            for name, value in layer.state_dict().items()
            if name != "weight_mask"
        }
    )
    torch.testing.assert_close(layer(x), plain(x))
    layer(x).square().sum().backward()
    assert not layer.weight.grad[~mask].any() and layer.weight.grad[mask].any()
