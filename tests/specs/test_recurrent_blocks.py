"""Cells of `std/recurrent.arch` in a `scan`, compared with the recurrent layers of PyTorch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import archc
from archc.codegen import onnx
from archc.codegen.torch.load import load_module
from tests.specs.twins import TOLERANCE, assert_close

HEAD = """
import "std/recurrent.arch" as rec
model m(hidden = 6) {
    input x: f32[N, T, 4]
"""

CELLS = {
    "gru": (
        nn.GRU,
        """
    scan x_t in x, h = zeros((N, hidden)) {
        h = (x_t, h) -> cell: rec.GruCell(hidden)
        yield states = h
    }""",
    ),
    "lstm": (
        nn.LSTM,
        """
    scan x_t in x, h = zeros((N, hidden)), c = zeros((N, hidden)) {
        h, c = (x_t, h, c) -> cell: rec.LstmCell(hidden)
        yield states = h
    }""",
    ),
}

NAMES = {
    "cell.from_x.weight": "weight_ih_l0",
    "cell.from_h.weight": "weight_hh_l0",
    "cell.from_x.bias": "bias_ih_l0",
    "cell.from_h.bias": "bias_hh_l0",
}


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_is_a_step_of_the_layer_of_torch(cell: str, tmp_path: Path) -> None:
    layer, scan = CELLS[cell]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reference = layer(4, 6, batch_first=True)
    own = dict(reference.named_parameters())
    save_file({path: own[name].detach().clone() for path, name in NAMES.items()}, tmp_path / "w.safetensors")
    compiled = archc.compile(f"{HEAD}{scan}\n    output y = states\n}}", weights=tmp_path / "w.safetensors")
    compiled.write(tmp_path, emit=("torch", "onnx"))
    module = load_module(tmp_path / "m.py").load()
    for shape in ((3, 7, 4), (2, 1, 4), (1, 12, 4)):
        x = numbers(*shape)
        with torch.no_grad():
            wanted, _ = reference(x)
            assert_close(cell, module(x), wanted)
        assert_close(cell, torch.from_numpy(onnx.run(tmp_path / "m.onnx", {"x": x.numpy()})["y"]), wanted)

    x = numbers(3, 7, 4)
    for y in (reference(x)[0], module.train()(x)):
        (y**2).sum().backward()
    for path, parameter in module.named_parameters():
        expected = own[NAMES[path]].grad
        assert parameter.grad is not None and expected is not None
        assert (parameter.grad - expected).abs().max() <= TOLERANCE * expected.abs().max(), path
