"""Regression tests: texts that archc once compiled incorrectly, compiled from the command line.

`README.md` in this folder describes the faults, and lists the tests of similar faults.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

import archc
from archc.cli import main
from archc.codegen import onnx
from archc.codegen.onnx.runtime import run_session
from archc.codegen.torch.load import load_module
from archc.interpreter.sample_inputs import random_inputs
from archc.passmanager.comparison import largest_error
from archc.weights.dtype_conversion import from_torch, to_torch
from tests.ops.runtimes import sessions

FOLDER = Path(__file__).parent
FLOATS = (
    "attention_of_scaled_input",
    "attention_fully_masked_rows",
    "bf16_conv",
    "channels_last_tall_kernel",
    "f16_check",
    "full_dtype",
    "i8_dequantize_then_reshape",
    "list_with_named_member",
    "squeeze_symbolic",
    "stage_with_derived_size",
    "symbolic_size_in_attribute",
    "upsample_factor_static",
    "upsample_factor_symbolic",
    "upsample_nearest_factor",
    "upsample_nearest_size",
    "wrapped_loop_header",
)
COMPRESSED = {
    "gather_sample_index": "quant",
    "int8_large_bias": "fold, quant",
    "quant_lstm": "quant(on = 'r')",
    "quant_shared_layer_stages": "quant(least = 1), partition(stages = 2)",
    "zero_calibration": "quant",
}
WARNED = {"dead_layer_in_block": "dead-layer", "zero_calibration": "constant-calibration"}
REFUSED = {
    "blow_up_blocks": "model-too-large",
    "blow_up_floor_chain": "size-too-complex",
    "blow_up_sizes": "size-too-complex",
    "calibration_smaller_than_kernel": "calibration-failed",
    "check_crashes_runtime": "no-onnx-form",
    "linear_i64": "dtype-mismatch",
}
TOLERANCES = {torch.bfloat16: 3e-2, torch.float16: 4e-3, torch.float32: 1e-5, torch.float64: 1e-12}


def written(name: str, folder: Path, *options: str) -> str:
    """Compile a text with its calibration data, check it, and return the name of the model."""
    data = FOLDER / f"{name}.npz"
    calibration = ["--calib", str(data)] if data.exists() else []
    command = ["compile", str(FOLDER / f"{name}.arch"), "--check", "-o", str(folder), *calibration, *options]
    assert main(command) == 0
    model = json.loads((folder / "report.json").read_text())["model"]
    assert isinstance(model, str)
    return model


def inputs_of(name: str, batch: int) -> dict[str, torch.Tensor]:
    graph = archc.parse(FOLDER / f"{name}.arch")
    arrays = random_inputs(graph, batch=batch).values()
    inputs = {
        str(value.name): torch.from_numpy(array).to(getattr(torch, value.type.dtype.torch))
        for value, array in zip(graph.inputs, arrays, strict=True)
    }
    if "seen" in inputs:
        inputs["seen"][0] = False  # all positions of the first sample are padding
    return inputs


def in_torch(folder: Path, model: str, inputs: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    module = load_module(folder / f"{model}.py").load()
    with torch.inference_mode():
        results = module(*inputs.values())
    return list(results) if isinstance(results, tuple) else [results]


@pytest.mark.parametrize("name", FLOATS)
def test_programs_agree_at_every_optimization_level(name: str, tmp_path: Path) -> None:
    model = written(name, tmp_path)
    ready = sessions(tmp_path / f"{model}.onnx")
    for batch in (1, 3):
        inputs = inputs_of(name, batch)
        expected = in_torch(tmp_path, model, inputs)
        assert all(tensor.isfinite().all() for tensor in expected)
        for level, session in ready.items():
            found = run_session(session, {key: from_torch(tensor) for key, tensor in inputs.items()})
            for tensor, array in zip(expected, found.values(), strict=True):
                assert array.shape == tensor.shape, level
                error = largest_error({"y": tensor}, {"y": to_torch(array)})
                assert error < TOLERANCES[tensor.dtype], level


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_programs_and_stages_pass_the_check(name: str, tmp_path: Path) -> None:
    written(name, tmp_path, "--passes", COMPRESSED[name])
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["check"]["errors"]) == (4 if "partition" in COMPRESSED[name] else 2)
    assert all(error <= report["check"]["tolerance"] for error in report["check"]["errors"].values())
    if name == "quant_lstm":
        assert report["bytes"] < 0.3 * report["parameters"] * 4


def test_a_large_bias_survives_int8(tmp_path: Path) -> None:
    """The first line of the text describes the weights; the error was 74 % of the output."""
    text = FOLDER / "int8_large_bias.arch"
    weights = {path: np.array(archc.compile(text).graph.weight_values(path)) for path in archc.parse(text).weights}
    weights["bn2.weight"][5], weights["bn2.bias"][5] = 1e-5, 2.0
    data = {"x": np.load(FOLDER / "int8_large_bias.npz")["x"]}
    before = archc.compile(text, weights=weights)
    after = archc.compile(text, weights=weights, passes="fold, quant", calib=data)
    expected = before.module()(torch.from_numpy(data["x"])).detach()
    after.write(tmp_path)
    programs = {
        "PyTorch": after.module()(torch.from_numpy(data["x"])).detach(),
        "ONNX Runtime": to_torch(onnx.run(tmp_path / "dead.onnx", data, exact=True)["y"]),
    }
    for program, found in programs.items():
        assert largest_error({"y": expected}, {"y": found}) < 0.05, program


def test_widths_after_pruning_are_multiples_of_8(tmp_path: Path) -> None:
    written("prune_unaligned_widths", tmp_path, "--passes", "prune(0.3, scheme = 'channel')")
    weights = archc.parse(tmp_path / "pr.arch").weights
    widths = [weights[f"c.{i}.weight"].shape[0] for i in range(5)]
    assert all(width % 8 == 0 for width in widths) and min(widths) < 40


@pytest.mark.parametrize("name", WARNED)
def test_parts_of_a_model_without_effect_give_a_warning(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(name, tmp_path, "--passes", COMPRESSED.get(name, "simplify"))
    assert f"warning[{WARNED[name]}]" in capsys.readouterr().err


def test_a_checkpoint_may_have_a_layer_that_feeds_nothing(tmp_path: Path) -> None:
    text = FOLDER / "dead_layer_in_block.arch"
    weights = {path: np.array(archc.compile(text).graph.weight_values(path)) for path in archc.parse(text).weights}
    for i in range(3):
        weights |= {f"l.{i}.res.weight": np.zeros((8, 8), np.float32), f"l.{i}.res.bias": np.zeros(8, np.float32)}
    archc.compile(text, weights=weights).write(tmp_path, check=True)


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_inputs_are_refused_and_leave_no_file(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = FOLDER / f"{name}.npz"
    options = ["--passes", "quant", "--calib", str(data)] if data.exists() else []
    assert main(["compile", str(FOLDER / f"{name}.arch"), "-o", str(tmp_path / "out"), *options]) == 1
    said = capsys.readouterr().err
    assert f"error[{REFUSED[name]}]" in said and "bug in archc" not in said
    assert not (tmp_path / "out").exists()


def test_every_text_has_a_case() -> None:
    cases = {*FLOATS, *COMPRESSED, *WARNED, *REFUSED, "prune_unaligned_widths"}
    assert {path.stem for path in FOLDER.glob("*.arch")} == cases
