"""The front door: which model is meant, the same bytes on every run, and memory that follows the largest layer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import archc
from archc.diagnostics import ArchcError, Diagnostics

TEXT = "model net(width = 8) { input x: f32[N, 8]  output y = x -> fc1: linear(width) -> relu -> fc2: linear(4) }\n"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    program = (
        "import sys, archc; archc.compile(sys.argv[1], passes='lowrank(rank = 2), quant(int8)').write(sys.argv[2])"
    )
    for number in ("1", "2"):
        command = [sys.executable, "-c", program, TEXT + " ", str(tmp_path / number)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": number})
    one, other = contents(tmp_path / "1"), contents(tmp_path / "2")
    assert set(one) == {"net.py", "net.arch", "net.onnx", "net.safetensors", "report.json"}
    assert one == other


def test_the_seed_reaches_the_weights(tmp_path: Path) -> None:
    for seed in (0, 1):
        archc.compile(TEXT, seed=seed).write(tmp_path / str(seed))
    one, other = contents(tmp_path / "0"), contents(tmp_path / "1")
    assert one["net.py"] == other["net.py"] and one["net.safetensors"] != other["net.safetensors"]


def test_which_model_is_meant(tmp_path: Path) -> None:
    two = TEXT + TEXT.replace("net", "other")
    path = tmp_path / "other.arch"
    path.write_text(two)
    assert archc.parse(path).name == archc.parse(str(path)).name == "other"
    assert archc.parse(two, model="net").name == "net"
    for text, model, code in (
        (two, None, "which-model"),
        (two, "nett", "unknown-model"),
        ("block B { input x output x }", None, "no-model"),
    ):
        with pytest.raises(ArchcError) as failure:
            archc.parse(text, model)
        assert failure.value.diagnostics[0].code == code


def test_warnings_go_where_they_are_wanted() -> None:
    diagnostics = Diagnostics()
    compiled = archc.compile(
        "model m { input x: f32[N]  h = x -> tanh  output y = x -> relu }", diagnostics=diagnostics
    )
    assert [warning.code for warning in diagnostics.warnings] == ["unused-value"]
    assert compiled.diagnostics is diagnostics


MEASURE = """
import resource, sys
import archc
from archc.codegen import onnx, torch

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

layers, width = int(sys.argv[1]), 2048
stages = " -> ".join(f"fc{k}: linear({width})" for k in range(layers))
text = f"model big {{ input x: f32[N, {width}]  output y = x -> {stages} }}"
archc.compile(text.replace("2048", "8")).write(sys.argv[2])  # all that is imported is there now
before = peak()
report = archc.compile(text).write(sys.argv[2])
print(peak() - before, report["bytes"])
"""


@pytest.mark.slow
def test_memory_follows_the_largest_layer(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MEASURE, "18", str(tmp_path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    grown, weights = map(int, output.split())
    assert weights > 300_000_000  # nine tenths of it in eighteen matrices of 16 MiB
    assert grown < weights / 3
    assert (tmp_path / "big.onnx").stat().st_size < 1_000_000 and (
        tmp_path / "big.safetensors"
    ).stat().st_size > weights
