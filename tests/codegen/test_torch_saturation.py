"""Integers on CPUs whose kernels clip sums of products: those without VNNI, which oneDNN can be told to play."""

from __future__ import annotations

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
import sys
import torch
sys.path.insert(0, sys.argv[1])
import net
model = net.load()
for rows in (1, 5, 70):
    x = torch.full((rows, *map(int, sys.argv[2:])), 3.0)
    y = model(x).double()
    wanted = torch.full_like(y, float(open(sys.argv[1] + "/wanted").read()))
    assert torch.allclose(y, wanted, rtol=0.02), (rows, float(y.mean()), float(wanted.mean()))
print("exact" if net.EXACT else "clips")
"""


@pytest.mark.parametrize("isa", ["DEFAULT", "AVX2"])
@pytest.mark.parametrize("scheme", ["static", "dynamic"])
@pytest.mark.parametrize(("text", "shape"), [(PERCEPTRON, (384,)), (CONVOLUTIONS, (16, 12, 12))])
def test_the_largest_products_add_up(text: str, shape: tuple[int, ...], scheme: str, isa: str, tmp_path: Path) -> None:
    """All weights and inputs are the largest that their integers can say, so that nothing averages out."""
    weights = {
        path: np.full(weight.shape, 0.0 if path.endswith("bias") else 0.01, np.float32)
        for path, weight in archc.parse(text).weights.items()
    }
    np.savez(tmp_path / "weights.npz", **weights)
    np.savez(tmp_path / "data.npz", x=np.full((4, *shape), 3.0, np.float32))
    compiled = archc.compile(
        text,
        passes=f'quant(scheme = "{scheme}", least = 0)',
        weights=tmp_path / "weights.npz",
        calibration=tmp_path / "data.npz",
    )
    compiled.write(tmp_path, emit=("torch",))
    fan_in = [weight[0].size for path, weight in weights.items() if path.endswith("weight")]
    (tmp_path / "wanted").write_text(str(3.0 * np.prod([0.01 * size for size in fan_in])))
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa}
    command = [sys.executable, "-c", RUN, str(tmp_path), *map(str, shape)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
