"""Modules with int8 layers in other dtypes, and with weights that are loaded in inference mode."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import archc
from archc.codegen.torch.load import load_module

TEXTS = {
    "linear": ("input x: f32[N, 512]  output y = x -> a: linear(512) -> relu -> b: linear(512)", (128, 512)),
    "conv2d": (
        "input x: f32[N, 32, 16, 16]  output y = x -> a: conv2d(64, 3) -> relu -> max_pool2d(2) -> b: conv2d(64, 3)",
        (4, 32, 16, 16),
    ),
    "embedding": ("input x: f32[N, 8]  output y = x + (arange(5) -> e: embedding(5, 8) -> mean(0))", (3, 8)),
    "lstm": ("input x: f32[N, 5, 8]  output y = x -> a: lstm(6)", (3, 5, 8)),
    "gru": ("input x: f32[N, 5, 8]  output y = x -> a: gru(6)", (3, 5, 8)),
}


def loaded(body: str, folder: Path, passes: str = "quant(least = 0)") -> nn.Module:
    compiled = archc.compile(f"model net {{ {body} }}", passes=passes)
    compiled.write(folder, emit="torch", check=False)
    model: nn.Module = load_module(folder / "net.py").load()
    return model


def operand(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layer", TEXTS)
def test_a_module_computes_in_the_dtype_of_its_scales(layer: str, dtype: torch.dtype, tmp_path: Path) -> None:
    body, shape = TEXTS[layer]
    model, x = loaded(body, tmp_path), operand(shape)
    expected = model(x)
    y = model.to(dtype)(x.to(dtype))
    assert y.dtype is dtype
    steps = 2 if dtype is torch.float64 else 12
    assert (y.float() - expected).norm() <= steps / 255 * expected.norm()


@pytest.mark.parametrize("passes", ["quant(least = 0)", 'quant(scheme = "weight")'])
@pytest.mark.parametrize("layer", ["linear", "conv2d", "embedding"])
def test_weights_loaded_in_inference_mode_replace_the_earlier_ones(layer: str, passes: str, tmp_path: Path) -> None:
    body, shape = TEXTS[layer]
    x = operand(shape)
    with torch.inference_mode():
        model, fresh = (loaded(body, tmp_path / name, passes) for name in ("model", "fresh"))
        model(x)
        state = {
            name: -value if name.endswith("weight") else value.clone() for name, value in model.state_dict().items()
        }
        model.load_state_dict(state)
        fresh.load_state_dict(state)
        assert torch.equal(model(x), fresh(x))
        assert not torch.equal(model(x), loaded(body, tmp_path / "before", passes)(x))
