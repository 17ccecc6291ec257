"""Layers with fake-quantized weights: values of the integer formats, and straight-through gradients."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from archc.codegen.torch.layer_classes import storage_arguments
from archc.runtime import fake_quantized
from archc.types.storage import FakeQuantized, Int8, Integers
from archc.types.tensor_type import DType
from tests.runtime.test_masked import CASES, operand
from tests.storages import random_packed


def arguments(format: Integers) -> dict[str, Any]:
    """The arguments of the format in PyTorch."""
    given = storage_arguments(FakeQuantized(format))
    return {
        name: getattr(torch, value.torch) if isinstance(value, DType) else value for name, (value, _) in given.items()
    }


@pytest.mark.parametrize("seed", range(80))
def test_values_are_those_of_the_integers(seed: int) -> None:
    """Values and gradients are exact, also for groups of zeros, and for tiny and huge elements."""
    chance, generator = Random(seed), np.random.default_rng(seed)
    shape = tuple(chance.randint(1, 9) for _ in range(chance.randint(1, 4)))
    format = Int8(chance.choice((None, *range(len(shape))))) if seed % 4 == 0 else random_packed(chance, len(shape))
    values = generator.standard_normal(shape, np.float32) * np.float32(10.0 ** chance.randint(-9, 6))
    values[generator.random(shape) < chance.choice((0, 0.8))] = 0
    decoded = format.decode("w", format.encode("w", values), shape, DType.f32)
    weight = torch.from_numpy(values).requires_grad_()
    rounded = fake_quantized.fake_quantized(weight, **arguments(format))
    gradient = torch.from_numpy(generator.standard_normal(shape, np.float32))
    rounded.backward(gradient)
    assert torch.equal(rounded.detach(), torch.from_numpy(decoded))
    assert weight.grad is not None and torch.equal(weight.grad, gradient)


def test_every_class_has_a_case() -> None:
    assert {f"FakeQuantized{name}" for name in CASES} == set(fake_quantized.__all__) - {"fake_quantized"}


@pytest.mark.parametrize("format", [{"bits": 8}, {"bits": 3, "group": 5}], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_a_layer_computes_with_the_rounded_weight(name: str, format: dict[str, int]) -> None:
    positional, shape = CASES[name]
    layer: nn.Module = getattr(fake_quantized, f"FakeQuantized{name}")(*positional, **format)
    plain: nn.Module = getattr(nn, name)(*positional)
    assert isinstance(layer, type(plain)) and set(layer.state_dict()) == set(plain.state_dict())
    plain.load_state_dict(layer.state_dict())
    assert isinstance(plain.weight, nn.Parameter) and isinstance(layer.weight, nn.Parameter)
    with torch.no_grad():
        plain.weight.copy_(fake_quantized.fake_quantized(layer.weight, **format))  # type: ignore[arg-type]
    assert not torch.equal(plain.weight, layer.weight)
    x = operand(name, shape)
    torch.testing.assert_close(layer(x), plain(x))
    for one in (layer, plain):
        one(x).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad)
