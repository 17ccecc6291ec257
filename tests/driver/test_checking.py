"""Check of emitted programs against the graph: `--check` finds programs with other results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import archc
from archc.codegen import onnx as onnx_runtime
from archc.codegen.onnx import emit
from archc.diagnostics import ArchcError
from archc.driver.checking import check_agreement
from archc.driver.emitted_programs import Programs
from archc.driver.tolerance import FLOORS
from archc.driver.weight_scaling import scaling_factors, with_factors
from archc.driver.weights_file import write_weights
from archc.interpreter.evaluate import evaluate_all
from archc.passmanager.calibration import Calibration
from archc.passmanager.comparison import largest_error, spreads

TEXT = "model net { input x: f32[N, 8]  output y = x -> fc1: linear(8) -> relu -> fc2: linear(4) }"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    archc.compile(TEXT).write(tmp_path)
    return {suffix: tmp_path / f"net{suffix}" for suffix in (".py", ".onnx")}


def test_written_files_agree(files: dict[str, Path]) -> None:
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
    """Change the outputs by the relative error `factor - 1`."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name in ("fc2.bias", "fc2.weight", "fc2.weight_scale") and tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))
    onnx.save(model, path)


@pytest.mark.parametrize("passes", ["", "quant(scheme = weight)"])
def test_only_differences_above_the_tolerance_are_errors(passes: str, tmp_path: Path) -> None:
    compiled = archc.compile(TEXT, passes=passes)
    compiled.write(tmp_path)
    files, tolerance = {".onnx": tmp_path / "net.onnx"}, FLOORS["f32"]
    spread = check_agreement(compiled, files)["spread"]["y"]
    assert 0.1 < spread < 1
    scale_last_layer(files[".onnx"], 1 + 0.7 * tolerance * spread)  # errors are relative to the spread
    assert check_agreement(compiled, files)["errors"]["onnxruntime"] == pytest.approx(0.7 * tolerance, rel=0.1)
    compiled.write(tmp_path)
    scale_last_layer(files[".onnx"], 1 + 1.5 * tolerance * spread)
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


# Outputs that hardly depend on the inputs --------------------------------------------------------------------

DEEP = """
model deep(depth = 20) {
    input image: f32[N, 3, 12, 12]
    x = image
    for i in 0..depth { x = x -> conv[i]: conv2d(8, 3, padding = 1) -> relu }
    output logits = x -> flatten -> fc: linear(5)
}
"""
"""A network that attenuates its input: fresh outputs depend almost only on the last biases."""


def kernel_turned_in_onnx(files: dict[str, Path]) -> None:
    """Flip the first kernel of the ONNX model upside down."""
    model = onnx.load(files[".onnx"])
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "conv.0.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[:, :, ::-1].copy(), weight.name))
    onnx.save(model, files[".onnx"])


def image_turned_in_torch(files: dict[str, Path]) -> None:
    source = files[".py"].read_text()
    assert source.count("x = image\n") == 1
    files[".py"].write_text(source.replace("x = image\n", "x = image.flip(2)\n"))


@pytest.mark.parametrize(
    ("passes", "spoil", "suffix"),
    [
        ("", kernel_turned_in_onnx, ".onnx"),
        ("", image_turned_in_torch, ".py"),
        ("simplify", kernel_turned_in_onnx, ".onnx"),
        ("prune(0.5)", kernel_turned_in_onnx, ".onnx"),
    ],
)
def test_errors_of_early_layers_of_attenuating_networks_are_found(
    passes: str, spoil: Callable[[dict[str, Path]], None], suffix: str, tmp_path: Path
) -> None:
    compiled = archc.compile(DEEP, passes=passes)
    compiled.write(tmp_path)
    files = {suffix: tmp_path / f"deep{suffix}" for suffix in (".py", ".onnx")}
    right = check_agreement(compiled, files)
    assert right["faint"] == ["logits"] and right["spread"]["logits"] < 1e-3
    assert right["scaled"]["faint"] == [] and max(right["scaled"]["errors"].values()) < 2e-5
    spoil(files)
    inputs = next(Calibration(compiled.graph).batches())
    expected = Calibration(compiled.graph).outputs(compiled.graph)
    found = dict(Programs({suffix: files[suffix]}, ()).results(compiled.graph, inputs))
    (wrong,) = found.values()
    assert largest_error(expected, wrong) < FLOORS["f32"], "the error is found even without scaled weights"
    with pytest.raises(ArchcError, match=r"differs from the graph by .* once weights are scaled") as failure:
        check_agreement(compiled, {suffix: files[suffix]})
    assert failure.value.diagnostics[0].code == "check-failed"


def test_a_model_with_weights_in_another_file_is_scaled_too(
    tmp_path: Path,
) -> None:
    compiled = archc.compile(DEEP)
    weights_file = tmp_path / "deep.safetensors"
    offsets = write_weights(compiled.graph, weights_file).offsets
    emit(compiled.graph, tmp_path / "deep.onnx", weights_file=weights_file, offsets=offsets, large=0)
    assert "deep.safetensors" in (tmp_path / "deep.onnx").read_bytes().decode("latin-1")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    outcome = check_agreement(compiled, {".onnx": tmp_path / "deep.onnx"})
    assert outcome["scaled"]["faint"] == [] and outcome["scaled"]["errors"]["onnxruntime"] < 2e-5
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}, "the check changed a written file"
    weight, fresh = (graph.weight_values("fc.weight") for graph in (compiled.graph, archc.compile(DEEP).graph))
    np.testing.assert_array_equal(weight, fresh)


def test_the_stages_of_a_deep_model_are_scaled_too(tmp_path: Path) -> None:
    text = DEEP.replace("x -> flatten", "x -> to_stage(1) -> flatten")
    outcome = archc.compile(text).write(tmp_path, check=True)["check"]
    assert set(outcome["scaled"]["errors"]) == {"torch", "onnxruntime", "torch stages", "onnxruntime stages"}
    assert outcome["scaled"]["faint"] == []


def test_a_model_with_integer_layers_is_not_scaled(tmp_path: Path) -> None:
    """Quantization scales are valid only for the original weights."""
    outcome = archc.compile(DEEP, passes="quant").write(tmp_path, check=True)["check"]
    assert outcome["faint"] == ["logits"] and "scaled" not in outcome


def test_errors_are_relative_to_the_spread(tmp_path: Path) -> None:
    """With a large bias, an output differs little between inputs."""
    text = "model net { input x: f32[N, 8]  output y = 10 + (x -> fc2: linear(4)) }"
    compiled = archc.compile(text)
    compiled.write(tmp_path)
    files = {".onnx": tmp_path / "net.onnx"}
    outcome = check_agreement(compiled, files)
    size, spread = 10.0, outcome["spread"]["y"]
    one, other = (Calibration(compiled.graph, seed=seed).outputs(compiled.graph)["y"] for seed in (0, 1))
    assert spread == pytest.approx(float((one - other).norm() / one.norm() / 2**0.5))
    assert 0.01 < spread < 0.1 and not outcome["faint"]
    scale_last_layer(files[".onnx"], 1 + 1e-3)  # an error of about 1e-3 of the spread, but only 5e-5 of the size
    found = onnx_runtime.run(files[".onnx"], {"x": next(Calibration(compiled.graph).batches())["x"].numpy()})
    assert np.abs(found["y"] - one.numpy()).max() < 1e-4 * size
    with pytest.raises(ArchcError, match="onnxruntime differs"):
        check_agreement(compiled, files)


def test_spreads() -> None:
    one, other = (torch.randn(100_000, generator=torch.Generator().manual_seed(seed)) for seed in range(2))
    found = spreads(
        {"free": one, "shifted": one + 10, "fixed": one, "none": one[:0], "places": one > 0, "holes": one / one.relu()},
        {"free": other, "shifted": other + 10, "fixed": one, "none": one[:0], "places": other > 0, "holes": one * 0},
    )
    assert found["free"] == pytest.approx(1, rel=0.02)
    assert found["shifted"] == pytest.approx(1 / 101**0.5, rel=0.02)
    assert found["fixed"] == found["none"] == 0
    assert found["places"] == pytest.approx(0.5, abs=0.01)
    assert np.isfinite(found["holes"])


def test_results_of_scaled_layers_have_deviation_1() -> None:
    text = """model m {
        input x: f32[N, 16]
        layer twice = linear(16)
        x = x -> first: linear(16) -> relu -> twice -> twice
        output y = x -> layer_norm -> last: linear(4)
    }"""
    graph = archc.compile(text).graph
    inputs = next(Calibration(graph).batches())
    factors = scaling_factors(graph, inputs)
    assert {path.partition(".")[0] for path in factors} == {"first", "last"}
    scaled = with_factors(graph, factors)
    for value, result in evaluate_all(scaled, inputs):
        if value.producer is not None and value.producer.path in ("first", "last"):
            assert float(result.std(correction=0)) == pytest.approx(1, abs=1e-4)
