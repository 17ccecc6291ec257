"""Modules of int8 layers agree with float layers on the dequantized weights and operands."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from archc.runtime import int8


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.manual_seed(seed))


def with_weights(layer: int8.Int8Layer) -> None:
    generator = torch.manual_seed(1)
    # Sums of two products fit into 16 bits, so kernels without VNNI are also exact.
    layer.weight.copy_(torch.randint(-60, 61, layer.weight.shape, generator=generator))
    layer.weight_scale.copy_(torch.rand(layer.weight_scale.shape, generator=generator) / 100 + 0.001)
    if layer.bias is not None:
        layer.bias.copy_(random(*layer.bias.shape, seed=2))


def linear(inputs: int = 64, outputs: int = 48, **options: bool) -> int8.Int8Linear:
    layer = int8.Int8Linear(inputs, outputs, **options)
    with_weights(layer)
    return layer


def quantizer(scale: float = 0.02, zero_point: int = 120) -> int8.Quantize:
    made = int8.Quantize()
    made.scale.fill_(scale)
    made.zero_point.fill_(zero_point)
    return made


@pytest.fixture(params=["integers", "floats"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run every layer with integer kernels, or every layer in floating point."""
    kind: str = request.param
    monkeypatch.setattr(int8, "EXACT", True)
    for layer in (int8.Int8Linear, int8.Int8Conv2d):
        monkeypatch.setattr(layer, "least", 0 if kind == "integers" else float("inf"))
    return kind


def test_quantize_rounds_halves_to_even_and_clamps() -> None:
    q = quantizer(0.5, 3)(torch.tensor([0.25, 0.75, -0.25, 1000.0, -1000.0, torch.inf, -torch.inf]))
    assert q.integers().tolist() == [3, 5, 3, 255, 0, 255, 0]
    assert q.decoded().tolist() == [0.0, 1.0, 0.0, 126.0, -1.5, 126.0, -1.5]


def test_bytes_and_steps_are_the_same_integers() -> None:
    x = random(5, 7)
    steps, taken = quantizer()(x), quantizer()(x)
    taken.integers()
    assert torch.equal(steps.signed(), taken.signed())
    assert torch.equal(steps.steps(), taken.steps())
    assert torch.equal(steps.flatten().integers(), taken.integers().flatten())
    assert torch.equal(taken.to(torch.device("cpu")).integers(), steps.integers())


def test_layers_share_the_bytes_of_an_operand() -> None:
    x = random(5, 7)
    for q in (quantizer()(x), int8.quantize_tokens(x)):
        assert q.signed() is q.signed(), "each layer would convert the operand"
    q = quantizer()(x)
    signed = q.signed().clone()
    q.integers()
    assert torch.equal(q.signed(), signed), "a layer that reads q must not change q - 128"


@pytest.mark.parametrize("x", [random(4, 9), random(4, 9).abs() + 1, -random(4, 9).abs(), torch.zeros(3)])
def test_a_dynamic_range_contains_zero_and_every_number(x: Tensor) -> None:
    q = int8.quantize(x)
    assert 0 <= q.scale.zero_point <= 255
    torch.testing.assert_close(q.decoded(), x, atol=q.scale.size / 2 + 1e-6, rtol=0)


def test_each_token_has_a_symmetric_range() -> None:
    x = random(4, 9) * torch.tensor([0.0, 1e-3, 1.0, 1e5])[:, None]
    q = int8.quantize_tokens(x)
    assert q.signed().abs().amax(1).tolist() == [0, 127, 127, 127]
    assert ((q.decoded() - x).abs() <= q.scale.size * 0.50001).all()
    moved = q.to(torch.device("cpu"))
    assert torch.equal(moved.decoded(), q.decoded())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tokens_of_another_dtype(dtype: torch.dtype) -> None:
    layer, x = linear().to(dtype), random(3, 64).to(dtype)
    x[1] = 0
    y = layer(int8.quantize_tokens(x))
    assert y.dtype is dtype
    torch.testing.assert_close(y, F.linear(x, layer.decoded(), layer.bias), atol=0.05, rtol=0.02)


def test_an_infinite_token_changes_no_other_token(kernels: str) -> None:
    layer, x = linear(), random(4, 64)
    expected = layer(int8.quantize_tokens(x))
    x[1, 2] = torch.inf
    kept = [0, 2, 3]
    assert torch.equal(layer(int8.quantize_tokens(x))[kept], expected[kept])


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("rows", [(1,), (5,), (2, 3), (40,), (600,), (0,)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_linear_layer_by_token(bias: bool, rows: tuple[int, ...], quantized: bool, kernels: str) -> None:
    layer, x = linear(bias=bias), random(*rows, 64)
    q = int8.quantize_tokens(x)
    expected = F.linear(q.decoded(), layer.decoded(), layer.bias)
    if quantized:
        found = layer(q, quantizer()).integers().float()
        torch.testing.assert_close(found, quantizer()(expected).integers().float(), atol=1, rtol=0)
    else:
        torch.testing.assert_close(layer(q), expected)


def test_a_convolution_of_tokens_computes_in_floats(kernels: str) -> None:
    layer, x = int8.Int8Conv2d(4, 6, 3), random(2, 4, 8, 8)
    with_weights(layer)
    q = int8.quantize_tokens(x)
    torch.testing.assert_close(layer(q), F.conv2d(q.decoded(), layer.decoded(), layer.bias))


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("rows", [1, 5, 40])
@pytest.mark.parametrize("bias", [False, True])
def test_a_linear_layer(bias: bool, rows: int, dynamic: bool, kernels: str) -> None:
    layer, x = linear(bias=bias), random(rows, 64)
    q = int8.quantize(x) if dynamic else quantizer()(x)
    expected = F.linear(q.with_held(q.held.clone()).decoded(), layer.decoded(), layer.bias)
    torch.testing.assert_close(layer(q), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("relu", [False, True])
def test_a_result_is_quantized_by_the_layer(relu: bool, kernels: str) -> None:
    layer, to = linear(), quantizer(0.05, 100)
    x = random(8, 64)
    y = layer(quantizer()(x), to, relu)
    numbers = layer(quantizer()(x))
    expected = to(numbers.relu() if relu else numbers)
    difference = y.integers().int() - expected.integers().int()
    assert difference.abs().max() <= 1  # elements near a tie
    assert not relu or y.integers().min() >= 100


@pytest.mark.parametrize("options", [{}, {"padding": 1}, {"stride": 2, "groups": 2}, {"dilation": (2, 1)}])
def test_a_convolution(options: dict[str, object], kernels: str) -> None:
    layer = int8.Int8Conv2d(4, 6, 3, **options)  # type: ignore[arg-type]
    with_weights(layer)
    x = random(2, 4, 9, 9)
    q = quantizer()(x)
    numbers = quantizer()(x).decoded()
    steps = (layer.stride, layer.padding, layer.dilation, layer.groups)
    expected = F.conv2d(numbers, layer.decoded(), layer.bias, *steps)
    torch.testing.assert_close(layer(q), expected, atol=1e-3, rtol=1e-4)


def test_channels_last_changes_the_layout_alone(kernels: str) -> None:
    layer = int8.Int8Conv2d(4, 6, 3)
    with_weights(layer)
    usual = layer(quantizer()(random(2, 4, 9, 9)))
    other = copy.deepcopy(layer).to(memory_format=torch.channels_last)
    weight, _ = other.terms(int8.ONES, int8.ONES)
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    torch.testing.assert_close(other(quantizer()(random(2, 4, 9, 9))), usual)


def test_pooling_keeps_integers() -> None:
    x = random(2, 3, 8, 8)
    q = quantizer()(x)
    pooled = int8.pooled(q, 2)
    q.integers()
    assert torch.equal(int8.pooled(q, 2).integers(), pooled.integers())
    assert torch.equal(int8.pooled(x, 2), F.max_pool2d(x, 2))


def test_a_changed_buffer_is_seen() -> None:
    layer, x = linear(), random(1, 64)
    before = layer(quantizer()(x))
    layer.weight_scale.mul_(2)
    layer.bias.zero_()
    after = layer(quantizer()(x))
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, F.linear(quantizer()(x).decoded(), layer.decoded()), atol=1e-4, rtol=1e-4)
    assert copy.deepcopy(layer)._forms == {}
