"""Targets whose files hold the weights: `--emit onnx` writes no second copy of the weights."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

import archc
from archc.diagnostics import ArchcError
from archc.interpreter.evaluate import evaluate

EMIT = import_module("archc.codegen.onnx.emit")  # the package has a function of the same name
TEXT = "model net { input x: f32[N, T, 48]\noutput y = x -> a: linear(40) -> relu -> b: linear(30, bias = false) }"
DEEP = """
model net(depth = 20) {
    input x: f32[N, T, 48]
    for i in 0..depth { x = x -> fc[i]: linear(48) -> relu }
    output y = x -> head: linear(30)
}
"""


@pytest.fixture(params=["contained", "in a data file"])
def large(request: Any, monkeypatch: pytest.MonkeyPatch) -> bool:
    """True if weights of 1 KB are large, so that they are in a data file."""
    is_large: bool = request.param == "in a data file"
    if is_large:
        monkeypatch.setattr(EMIT, "LARGE", 1024)
    return is_large


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_model_alone_has_all_weights(large: bool, tmp_path: Path) -> None:
    compiled = archc.compile(TEXT)
    report = compiled.write(tmp_path, emit="onnx", check=True)
    assert report["check"]["errors"]["onnxruntime"] < 1e-5
    assert names(tmp_path) == {"net.onnx", "report.json"} | ({"net.onnx.data"} if large else set())
    assert report["files"].keys() == names(tmp_path) - {"report.json"}
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "net.onnx").graph.initializer}
    weights = {path: compiled.graph.weight_values(path) for path in compiled.graph.weights}
    assert stored.keys() == {"a.weight/T", "a.bias", "b.weight/T"}
    np.testing.assert_array_equal(stored["a.weight/T"], weights["a.weight"].T)
    x = np.random.default_rng(0).standard_normal((2, 3, 48), np.float32)
    found = onnxruntime.InferenceSession(tmp_path / "net.onnx").run(None, {"x": x})
    wanted = evaluate(compiled.graph, {"x": torch.from_numpy(x)})["y"]
    np.testing.assert_allclose(found[0], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("emit", ["onnx,torch", "onnx,arch", "arch", None])
def test_other_targets_need_the_weights_file(emit: str | None, large: bool, tmp_path: Path) -> None:
    archc.compile(TEXT).write(tmp_path, emit=emit)
    assert "net.safetensors" in names(tmp_path)
    assert "net.onnx.data" not in names(tmp_path)


def test_two_runs_write_the_same_bytes(large: bool, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        archc.compile(TEXT).write(tmp_path / folder, emit="onnx")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize("emit", ["onnx", "torch,onnx"])
def test_the_check_scales_the_weights(emit: str, large: bool, tmp_path: Path) -> None:
    compiled = archc.compile(DEEP)
    check = compiled.write(tmp_path, emit=emit, check=True)["check"]
    assert check["faint"] == ["y"] and check["scaled"]["faint"] == []
    assert check["scaled"]["errors"]["onnxruntime"] < 2e-5
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "net.onnx").graph.initializer}
    weight = stored["head.weight/T"].T if "head.weight/T" in stored else stored["head.weight"]
    np.testing.assert_array_equal(weight, compiled.graph.weight_values("head.weight"))


def test_stages_have_their_weights(large: bool, tmp_path: Path) -> None:
    text = TEXT.replace("-> b:", "-> to_stage(1) -> b:")
    report = archc.compile(text).write(tmp_path, emit="onnx", check=True)
    assert max(report["check"]["errors"].values()) < 1e-5
    suffixes = [".onnx", ".onnx.data"] if large else [".onnx"]
    assert [stage["files"] for stage in report["stages"]] == [
        [f"net_stage{number}{suffix}" for suffix in suffixes] for number in (0, 1)
    ]
    assert report["files"].keys() == names(tmp_path) - {"report.json"}


def test_quantized_sums_are_checked(large: bool, tmp_path: Path) -> None:
    report = archc.compile(TEXT, passes='quant(scheme = "dynamic", least = 0)').write(tmp_path, emit="onnx", check=True)
    assert set(report["check"]["errors"]) == {"onnxruntime"}


def test_the_data_file_does_not_replace_an_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(EMIT, "LARGE", 1024)
    source = tmp_path / "net.onnx.data"
    source.write_text(TEXT)
    with pytest.raises(ArchcError) as caught:
        archc.compile(source).write(tmp_path, emit="onnx")
    assert [found.code for found in caught.value.diagnostics] == ["output-replaces-input"]
    assert names(tmp_path) == {"net.onnx.data"} and source.read_text() == TEXT
