"""Layers that store the weight as int8 and compute in floats, compared with layers of torch.nn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from archc.runtime import int8

CASES: dict[str, tuple[tuple[int, ...], dict[str, Any], tuple[int, ...]]] = {
    "Linear": ((6, 4), {"bias": False}, (3, 6)),
    "Embedding": ((9, 4), {}, (2, 5)),
    "Conv1d": ((4, 6, 3), {"padding": 1, "groups": 2}, (2, 4, 9)),
    "Conv2d": ((4, 6, 3), {"stride": 2, "padding": "valid"}, (2, 4, 9, 9)),
    "Conv3d": ((4, 6, 3), {"dilation": 2}, (2, 4, 6, 6, 6)),
    "ConvTranspose1d": ((4, 6, 3), {"stride": 2, "output_padding": 1}, (2, 4, 9)),
    "ConvTranspose2d": ((4, 6, 3), {"padding": 1, "groups": 2}, (2, 4, 9, 9)),
    "ConvTranspose3d": ((4, 6, 3), {"dilation": 2, "bias": False}, (2, 4, 5, 5, 5)),
}
KINDS = {f"Int8Weight{name}" for name in CASES}


def operand(name: str, shape: tuple[int, ...]) -> Tensor:
    generator = torch.manual_seed(0)
    return torch.randint(0, 9, shape, generator=generator) if name == "Embedding" else torch.randn(shape)


def test_every_class_has_a_case() -> None:
    assert {name for name in int8.__all__ if name.startswith("Int8Weight")} - {"Int8Weight"} == KINDS


@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("name", CASES)
def test_a_layer_computes_with_the_decoded_weight(name: str, axis: int | None) -> None:
    arguments, options, shape = CASES[name]
    layer = getattr(int8, f"Int8Weight{name}")(*arguments, **options, axis=axis)
    plain: nn.Module = getattr(nn, name)(*arguments, **options)
    weight = torch.randint(-127, 128, plain.weight.shape, dtype=torch.int8)
    scales = torch.rand(() if axis is None else weight.shape[axis]) + 0.1
    along = [1] * weight.dim()
    if axis is not None:
        along[axis] = -1
    stored = {**plain.state_dict(), "weight": weight, "weight_scale": scales}
    layer.load_state_dict(stored)
    plain.load_state_dict({**plain.state_dict(), "weight": weight.double() * scales.double().view(along)})
    x = operand(name, shape)
    torch.testing.assert_close(layer(x), plain(x))
    layer.weight_scale.mul_(2)
    assert not torch.equal(layer(x), plain(x)), "a changed buffer changes the result"


def test_a_layer_is_built_on_a_device_without_weights_of_floats() -> None:
    with torch.device("meta"):
        layer = int8.Int8WeightLinear(6, 4)
    assert {name: (x.dtype, x.device.type) for name, x in layer.state_dict().items()} == {
        "bias": (torch.float32, "meta"),
        "weight": (torch.int8, "meta"),
        "weight_scale": (torch.float32, "meta"),
    }
