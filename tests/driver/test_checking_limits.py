"""Limits of `--check`: its tolerances, and outputs that hardly depend on the inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import archc
from archc.diagnostics import ArchcError
from archc.driver.checking import check_agreement
from archc.driver.emitted_programs import Programs
from archc.driver.tolerance import FLOORS, disturbed
from archc.passmanager.calibration import Calibration
from archc.passmanager.comparison import largest_error
from tests.driver.test_checking import DEEP, TEXT

# Networks that amplify rounding errors -----------------------------------------------------------------------

CHAOS = """
model chaos(depth = 100, width = 64) {
    input x: f32[N, width]
    for i in 0..depth { x = x -> l[i]: linear(width) -> tanh }
    output y = x
}
"""
"""A network that amplifies rounding errors about 1,000 times if its weights are scaled."""


def kernel_moved(path: Path, layer: str, by: float) -> None:
    model = onnx.load(path)
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == f"{layer}.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1 + by), weight.name))
    onnx.save(model, path)


def test_amplified_rounding_errors_raise_the_tolerance(tmp_path: Path) -> None:
    compiled = archc.compile(CHAOS)
    scaled = compiled.write(tmp_path, check=True)["check"]["scaled"]
    assert FLOORS["f32"] < scaled["errors"]["onnxruntime"] < scaled["tolerance"] < 1e-2
    assert compiled.write(tmp_path, check=True)["check"]["scaled"] == scaled, "the disturbance is seeded"
    # The fault does not show in the original outputs, which depend almost only on the last bias.
    kernel_moved(tmp_path / "chaos.onnx", "l.0", 1e-3)
    with pytest.raises(ArchcError, match=r"onnxruntime differs from the graph by .* once weights are scaled"):
        check_agreement(compiled, {".onnx": tmp_path / "chaos.onnx"})


def test_attenuated_rounding_errors_do_not_raise_the_tolerance(tmp_path: Path) -> None:
    scaled = archc.compile(DEEP).write(tmp_path, check=True)["check"]["scaled"]
    assert scaled["tolerance"] == FLOORS["f32"]


def test_the_disturbance_leaves_inputs_and_weights_alone() -> None:
    graph = archc.compile(TEXT).graph
    inputs = next(Calibration(graph).batches())
    before, weight = inputs["x"].clone(), graph.weight_values("fc2.weight").copy()
    expected = Calibration(graph).outputs(graph)
    assert 1e-7 < largest_error(expected, disturbed(graph, inputs)) < 1e-5
    assert torch.equal(inputs["x"], before) and (graph.weight_values("fc2.weight") == weight).all()


# Outputs that scaling does not change ------------------------------------------------------------------------


def test_a_model_of_which_no_layer_can_be_scaled_does_not_run_again(tmp_path: Path) -> None:
    text = "model m { input x: f32[N, 8]  layer l = linear(8)  for i in 0..12 { x = x -> l -> relu }  output y = x }"
    outcome = archc.compile(text).write(tmp_path, check=True)["check"]
    assert outcome["faint"] == ["y"] and outcome["scaled"] is None


@pytest.mark.parametrize(
    "outputs",
    [
        "output c = arange(3)  output y = x -> linear(4)",
        "output c = parameter((3, 3))  output y = x -> linear(4)",
        "output y = 1 + 0.0001 * x",
        "output y = (x -> linear(4)) + parameter((4,))  output c = 2 * ones((2, 3))",
    ],
)
def test_outputs_without_an_input_or_a_weight_are_not_faint(outputs: str, tmp_path: Path) -> None:
    outcome = archc.compile(f"model m {{ input x: f32[N, 8]  {outputs} }}").write(tmp_path, check=True)["check"]
    assert outcome["faint"] == [] and "scaled" not in outcome


def test_a_parameter_as_an_output_requires_no_gradients(tmp_path: Path) -> None:
    """A result that requires gradients would cause a warning of PyTorch."""
    compiled = archc.compile("model q { layer p = parameter((3, 3))  output y = p() }")
    compiled.write(tmp_path)
    ((_, found),) = Programs({".py": tmp_path / "q.py"}, ()).results(compiled.graph, {})
    assert not found["y"].requires_grad
    assert check_agreement(compiled, {".py": tmp_path / "q.py"})["errors"]["torch"] == 0


def test_a_model_that_takes_the_largest_runs(tmp_path: Path) -> None:
    """`topk(40, ...)` needs an axis that is longer than the default size of random inputs."""
    for shape, axis in (("N, T", 1), ("N, 4", 0)):
        text = f"model m {{ input x: f32[{shape}]  a, b = x -> topk(40, {axis})  output y = a -> l: linear(4) }}"
        for passes in ("", "quant"):
            if not (passes and axis):
                archc.compile(text, passes=passes).write(tmp_path, check=True)
