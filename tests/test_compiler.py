"""The functions `archc.parse` and `archc.compile`: choice of the model, weights and peak memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import archc
from archc.diagnostics import ArchcError, Diagnostics

TEXT = "model net(width = 8) { input x: f32[N, 8]  output y = x -> fc1: linear(width) -> relu -> fc2: linear(4) }\n"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_seed_reaches_the_weights(tmp_path: Path) -> None:
    for seed in (0, 1):
        archc.compile(TEXT, seed=seed).write(tmp_path / str(seed))
    one, other = contents(tmp_path / "0"), contents(tmp_path / "1")
    assert one["net.py"] == other["net.py"] and one["net.safetensors"] != other["net.safetensors"]


def test_input_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "net.arch").write_text("block Halving { input x: f32[N, D]  output x -> linear(D // 2) }\n")
    text = 'import "parts/net.arch" as parts\nmodel net { input x: f32[N, 8]  output y = x -> parts.Halving }\n'
    (tmp_path / "net.arch").write_text(text)
    built = tmp_path / "built"
    archc.compile(tmp_path / "net.arch").write(built)
    weights = built / "net.safetensors"
    for folder in (tmp_path, tmp_path / "parts", built):
        before = contents(built)
        with pytest.raises(ArchcError, match="take its place"):
            archc.compile(tmp_path / "net.arch", weights=weights, passes="quant").write(folder)
        assert contents(built) == before and (tmp_path / "net.arch").read_text() == text
    archc.compile(tmp_path / "net.arch", weights=weights).write(tmp_path / "other")


def test_choice_of_the_model(tmp_path: Path) -> None:
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


def test_warnings_go_to_the_given_diagnostics() -> None:
    diagnostics = Diagnostics()
    compiled = archc.compile(
        "model m { input x: f32[N]  h = x -> tanh  output y = x -> relu }", diagnostics=diagnostics
    )
    assert [warning.code for warning in diagnostics.warnings] == ["unused-value"]
    assert compiled.diagnostics is diagnostics


LARGE = "model large { input x: f32[N, 30000]  for i in 0..40 { x = x -> fc[i]: linear(30000) }  output y = x }"


def test_a_model_without_weights_is_written_as_texts_alone(tmp_path: Path) -> None:
    compiled = archc.compile(LARGE, weights="none")  # 144 GB in f32
    report = compiled.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.arch", "large.py", "report.json"]
    assert report["parameters"] == 40 * (30000 * 30000 + 30000) and report["weights"].startswith("none")
    assert archc.parse(tmp_path / "large.arch") == archc.parse(LARGE)
    small = archc.compile(LARGE.replace("30000", "8"), weights="none")
    assert small.sources()["large.py"] == archc.compile(LARGE.replace("30000", "8")).sources()["large.py"]


@pytest.mark.parametrize("asked", [{"emit": ["onnx"]}, {"emit": ["torch"], "check": True}])
def test_targets_that_need_weights_are_refused_without_them(asked: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ArchcError) as failure:
        archc.compile(LARGE, weights="none").write(tmp_path / "out", **asked)
    assert failure.value.diagnostics[0].code == "needs-weights"
    assert not (tmp_path / "out").exists()


def test_passes_need_weights() -> None:
    with pytest.raises(ArchcError) as failure:
        archc.compile(LARGE, weights="none", passes="fold")
    assert failure.value.diagnostics[0].code == "needs-weights"


MEASURE = """
import resource, sys
import archc
from archc.codegen import onnx, torch

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

layers, width = int(sys.argv[1]), 2048
stages = " -> ".join(f"fc{k}: linear({width})" for k in range(layers))
text = f"model big {{ input x: f32[N, {width}]  output y = x -> {stages} }}"
archc.compile(text.replace("2048", "8")).write(sys.argv[2])  # imports all modules
before = peak()
report = archc.compile(text).write(sys.argv[2])
print(peak() - before, report["bytes"])
"""


@pytest.mark.slow
def test_memory_follows_the_largest_layer(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MEASURE, "18", str(tmp_path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    grown, weights = map(int, output.split())
    assert weights > 300_000_000  # 18 matrices of 16 MiB each, and their biases
    assert grown < weights / 3
    assert (tmp_path / "big.onnx").stat().st_size < 1_000_000 and (
        tmp_path / "big.safetensors"
    ).stat().st_size > weights
