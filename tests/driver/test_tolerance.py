"""Tolerances of a check: they depend on dtypes and passes, and wrong programs are above them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import archc
from archc.diagnostics import ArchcError
from archc.driver.checking import check_agreement
from archc.driver.tolerance import FLOORS, coarsest, measured_bound
from archc.interpreter.evaluate import evaluate
from archc.passmanager.calibration import Calibration
from archc.weights.safetensors import read

NETS = {
    "f16": ("f16", ""),
    "bf16": ("bf16", ""),
    "f64": ("f64", ""),
    "int8": ("f32", "quant(least = 0)"),
    "int8 weights": ("f32", 'quant(scheme = "weight")'),
    "dynamic int8": ("f32", 'quant(scheme = "dynamic", least = 0)'),
    "training": ("f32", "quant(least = 0, training = true)"),
}
TEXT = """model net {{
    input x: {dtype}[N, 64]
    output y = x -> a: linear(32) -> relu -> b: linear(32) -> relu -> c: linear(10)
}}"""


@pytest.fixture(params=NETS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[archc.Compiled, Path]:
    dtype, passes = NETS[request.param]
    compiled = archc.compile(TEXT.format(dtype=dtype), passes=passes)
    report = compiled.write(tmp_path, check=True)
    assert max(report["check"]["errors"].values()) <= report["check"]["tolerance"] < 0.2
    return compiled, tmp_path


def negate_rows(array: np.ndarray) -> np.ndarray:
    """Negate every fourth row."""
    changed = array.copy()
    changed[::4] = -changed[::4]
    return changed


def reverse(array: np.ndarray) -> np.ndarray:
    return array[::-1].copy()


@pytest.mark.parametrize("change", [negate_rows, reverse])
def test_a_wrong_weight_in_the_onnx_model_is_found(
    written: tuple[archc.Compiled, Path], change: Callable[[np.ndarray], np.ndarray]
) -> None:
    compiled, folder = written
    model = onnx.load(folder / "net.onnx")
    weights = [tensor for tensor in model.graph.initializer if tensor.name.startswith("b.weight")]
    (weight,) = (tensor for tensor in weights if len(tensor.dims) == 2)
    weight.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weight)), weight.name))
    onnx.save(model, folder / "net.onnx")
    with pytest.raises(ArchcError, match="onnxruntime differs from the graph") as caught:
        check_agreement(compiled, {".onnx": folder / "net.onnx"})
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "check-failed" and diagnostic.help is not None and "`--no-check`" in diagnostic.help


def test_a_wrong_weight_in_the_safetensors_file_is_found(written: tuple[archc.Compiled, Path]) -> None:
    compiled, folder = written
    tensor = read(folder / "net.safetensors")["b.weight"]
    array = tensor.numpy()
    raw = np.memmap(folder / "net.safetensors", array.dtype, "r+", tensor.offset, array.shape)  # type: ignore[attr-defined]
    raw[...] = negate_rows(array)
    raw.flush()
    with pytest.raises(ArchcError, match="torch differs from the graph"):
        check_agreement(compiled, {".py": folder / "net.py"})


def test_a_wrong_operator_is_found(written: tuple[archc.Compiled, Path]) -> None:
    compiled, folder = written
    model = onnx.load(folder / "net.onnx")
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type = "Neg"
    onnx.save(model, folder / "net.onnx")
    with pytest.raises(ArchcError, match="onnxruntime differs from the graph"):
        check_agreement(compiled, {".onnx": folder / "net.onnx"})


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_the_tolerance_covers_one_rounding_per_layer(dtype: str, tmp_path: Path) -> None:
    """The errors of a deep network in 16 bits are within the measured tolerance."""
    layers = " ".join(f"x = x -> l{i}: linear(32) -> tanh" for i in range(12))
    compiled = archc.compile(f"model net {{ input x: {dtype}[N, 32]  {layers}  output y = x }}")
    check = compiled.write(tmp_path, check=True)["check"]
    assert max(check["errors"].values()) <= check["tolerance"]
    assert coarsest(compiled.graph) == dtype and check["tolerance"] >= FLOORS[dtype]


def test_nan_where_the_graph_has_nan_agrees(tmp_path: Path) -> None:
    text = "model net { input x: f32[N, 64]  h = x -> a: linear(32)  output y = h -> log  output z = h -> sqrt }"
    check = archc.compile(text).write(tmp_path, check=True)["check"]
    assert max(check["errors"].values()) < 1e-5 and "undecided" not in check
    (tmp_path / "net.py").write_text((tmp_path / "net.py").read_text().replace("torch.sqrt(h)", "torch.log(h)"))
    with pytest.raises(ArchcError, match="torch differs from the graph"):
        check_agreement(archc.compile(text), {".py": tmp_path / "net.py"})


def test_elements_that_rounding_makes_a_number_or_nan_are_not_compared(tmp_path: Path) -> None:
    """The difference `h - h * 3 / 3` rounds to a positive or a negative number, or to 0."""
    text = """model net {
        input x: f32[N, 64]
        h = x -> l: linear(4)
        output y = (h - h * 3 / 3) -> log
    }"""
    compiled = archc.compile(text)
    compiled.write(tmp_path)
    module = tmp_path / "net.py"
    source = module.read_text()
    assert source.count("h - h * 3 / 3") == 1
    module.write_text(source.replace("h - h * 3 / 3", "h * 3 / 3 - h"))
    undecided = check_agreement(compiled, {".py": module})["undecided"]
    assert 0.5 < undecided["y"] <= 1


def test_saturation_is_reported_apart_from_errors(tmp_path: Path) -> None:
    """Sums of the largest products saturate only on a CPU without VNNI."""
    text = "model net { input x: f32[N, 64]  output y = x -> a: linear(64) }"
    weights = {"a.weight": np.full((64, 64), 0.01, np.float32), "a.bias": np.zeros(64, np.float32)}
    np.savez(tmp_path / "weights.npz", **weights)
    np.savez(tmp_path / "data.npz", x=np.abs(np.random.default_rng(0).standard_normal((64, 64))).astype(np.float32))
    compiled = archc.compile(
        text,
        passes="quant(least = 0)",
        weights=tmp_path / "weights.npz",
        calibration=tmp_path / "data.npz",
    )
    check = compiled.write(tmp_path / "out", check=True)["check"]
    assert max(check["errors"].values()) <= check["tolerance"] < 0.1
    most = torch.full((64, 64), 127, dtype=torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(most, None)
    q, end = torch.full((64, 64), 255, dtype=torch.uint8), (None, 1.0, 0, torch.float32, "none", [], "")
    zeros = torch.zeros(64, dtype=torch.int64)
    sums = torch.ops.onednn.qlinear_pointwise(q, 1.0, 0, packed, torch.ones(64), zeros, *end)
    exact = bool((sums == 64 * 127 * 255).all())
    assert ("saturated" in check) is not exact


@pytest.mark.parametrize("options", ["", ', scheme = "dynamic"', ', scheme = "dynamic", granularity = "token"'])
def test_fake_quantized_values_have_the_disturbances_of_integers(options: str) -> None:
    passes = f"quant(least = 0, training = true{options})"
    bounds = []
    for graph in (archc.compile(TEXT.format(dtype="f32"), passes=each).graph for each in (passes, f"{passes}, quant")):
        inputs = next(Calibration(graph).batches())
        expected = evaluate(graph, inputs)
        bounds.append(measured_bound(graph, inputs, expected, dict.fromkeys(expected, 1.0)).tolerance)
    assert bounds[0] > 2 * FLOORS["f32"]
    assert bounds[0] == pytest.approx(bounds[1], rel=0.5)
