"""Integer layers on CPUs whose kernels saturate: CPUs without VNNI, which oneDNN can emulate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import archc

PERCEPTRON = "model net { input x: f32[N, 384]  output y = x -> a: linear(384) -> relu -> b: linear(64) }"
CONVOLUTIONS = """
    model net {
        input x: f32[N, 16, 12, 12]
        output y = x -> a: conv2d(32, 3) -> relu -> b: conv2d(32, 3) -> flatten -> c: linear(8)
    }
"""
RUN = """
import json, runpy, sys
import torch
for folder in sys.argv[1:]:
    shape, mean = json.load(open(folder + "/wanted.json"))
    net = runpy.run_path(folder + "/net.py")
    model = net["load"](folder + "/net.safetensors")
    for rows in (1, 5, 70):
        x = torch.full((rows, *shape), 3.0)
        y = model(x).double()
        wanted = torch.full_like(y, mean)
        assert torch.allclose(y, wanted, rtol=0.02), (folder, rows, float(y.mean()), mean)
print("exact" if net["archc_int8"].EXACT else "clips")
"""


def write_largest(text: str, shape: tuple[int, ...], scheme: str, folder: Path) -> None:
    """Write a module with the largest integers as weights and inputs, so that errors cannot cancel."""
    weights = {
        path: np.full(weight.shape, 0.0 if path.endswith("bias") else 0.01, np.float32)
        for path, weight in archc.parse(text).weights.items()
    }
    folder.mkdir()
    np.savez(folder / "weights.npz", **weights)
    np.savez(folder / "data.npz", x=np.full((4, *shape), 3.0, np.float32))
    compiled = archc.compile(
        text,
        passes=f'quant(scheme = "{scheme}", least = 0)',
        weights=folder / "weights.npz",
        calibration=folder / "data.npz",
    )
    compiled.write(folder, emit=("torch",))
    fan_in = [weight[0].size for path, weight in weights.items() if path.endswith("weight")]
    (folder / "wanted.json").write_text(json.dumps([shape, 3.0 * float(np.prod([0.01 * size for size in fan_in]))]))


@pytest.mark.parametrize("isa", ["DEFAULT", "AVX2"])
def test_the_largest_products_add_up(isa: str, tmp_path: Path) -> None:
    folders = []
    for text, shape in ((PERCEPTRON, (384,)), (CONVOLUTIONS, (16, 12, 12))):
        for scheme in ("static", "dynamic"):
            folders.append(tmp_path / f"{len(folders)}")
            write_largest(text, shape, scheme, folders[-1])
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa}
    command = [sys.executable, "-c", RUN, *map(str, folders)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
