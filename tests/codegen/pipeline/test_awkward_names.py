"""Pipelines whose text uses names that the emitted Python files also need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import archc
from archc.interpreter.evaluate import evaluate
from tests.codegen.pipeline.processes import PATIENCE, environment

TEXT = """
block Path(k) { input path: f32[OUTPUTS, D]  output path -> F: linear(k) -> relu -> device: linear(D) }
model {model} {{
    input {input}: f32[OUTPUTS, 6]
    stages = {input} -> nn: Path(8) -> relu -> to_stage(1) -> torch: Path(5)
    output {output} = stages -> STAGES: linear(3)
}}
"""


CASES = [("F", "path", "DEVICES"), ("DEVICES", "Path", "F")]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "given", "result"), CASES)
def test_the_program_runs(model: str, given: str, result: str, tmp_path: Path) -> None:
    block, whole = TEXT.strip().split("\n", 1)
    text = f"{block}\n{whole.format(model=model, input=given, output=result)}"
    compiled = archc.compile(text)
    compiled.write(tmp_path, emit=("torch",), check=False)
    x = np.random.default_rng(0).standard_normal((4, 6), dtype=np.float32)
    np.savez(tmp_path / "x.npz", **{given: x})
    line = [sys.executable, str(tmp_path / f"{model}_pipeline.py"), "--launch", "--data", str(tmp_path / "x.npz")]
    line += ["--output", str(tmp_path / "y.npz")]
    done = subprocess.run(line, env=environment(), text=True, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    expected = evaluate(compiled.graph, {given: torch.from_numpy(x)})[result]
    with np.load(tmp_path / "y.npz") as found:
        np.testing.assert_allclose(found[result], expected.numpy(), rtol=1e-5, atol=1e-6)
