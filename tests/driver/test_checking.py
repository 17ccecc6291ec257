"""`--check` finds files that do not compute what the graph does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import archc
from archc.diagnostics import ArchcError
from archc.driver.checking import check_agreement

TEXT = "model net { input x: f32[N, 8]  output y = x -> fc1: linear(8) -> relu -> fc2: linear(4) }"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    archc.compile(TEXT).write(tmp_path)
    return {suffix: tmp_path / f"net{suffix}" for suffix in (".py", ".onnx")}


def test_what_was_written_agrees(files: dict[str, Path]) -> None:
    outcome = check_agreement(archc.compile(TEXT), files)
    assert set(outcome["errors"]) == {"torch", "onnxruntime"} and max(outcome["errors"].values()) < 1e-5


def other_bias(path: Path) -> None:
    model = onnx.load(path)
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "fc2.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 1, "fc2.bias"))
    onnx.save(model, path)


def not_a_number(path: Path) -> None:
    model = onnx.load(path)
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "fc2.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) * float("nan"), "fc2.bias"))
    onnx.save(model, path)


def scale_last_layer(path: Path, factor: float) -> None:
    """Let the outputs be off by `factor - 1`, relatively."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name in ("fc2.bias", "fc2.weight", "fc2.weight_scale") and tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))
    onnx.save(model, path)


@pytest.mark.parametrize(("passes", "tolerance"), [("", 1e-4), ("quant(scheme = weight)", 5e-2)])
def test_what_differs_by_less_than_the_tolerance_agrees(passes: str, tolerance: float, tmp_path: Path) -> None:
    """Floats are compared strictly, and integers with the room that a number between two steps needs."""
    compiled = archc.compile(TEXT, passes=passes)
    compiled.write(tmp_path)
    files = {".onnx": tmp_path / "net.onnx"}
    scale_last_layer(files[".onnx"], 1 + 0.7 * tolerance)
    assert check_agreement(compiled, files)["errors"]["onnxruntime"] == pytest.approx(0.7 * tolerance, rel=0.1)
    compiled.write(tmp_path)
    scale_last_layer(files[".onnx"], 1 + 1.5 * tolerance)
    with pytest.raises(ArchcError, match="onnxruntime differs"):
        check_agreement(compiled, files)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("corrupt", [other_bias, not_a_number, truncated])
def test_a_corrupt_onnx_file(files: dict[str, Path], corrupt: Callable[[Path], None]) -> None:
    corrupt(files[".onnx"])
    with pytest.raises(ArchcError, match=r"onnxruntime differs|ONNX Runtime refuses") as failure:
        check_agreement(archc.compile(TEXT), files)
    assert failure.value.diagnostics[0].code == "check-failed"


def test_a_corrupt_module(files: dict[str, Path]) -> None:
    files[".py"].write_text(files[".py"].read_text().replace("relu", "tanh"))
    with pytest.raises(ArchcError, match="torch differs"):
        check_agreement(archc.compile(TEXT), files)


def test_nothing_is_written_where_the_check_fails(tmp_path: Path) -> None:
    compiled = archc.compile("model m { input x: bf16[N, 8]  output y = x -> fc: linear(4) }")
    with pytest.raises(ArchcError, match="no bf16"):
        compiled.write(tmp_path / "out", check=True)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
