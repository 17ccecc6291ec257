"""Choice of the layers of a recurrent operator whose operands `quant` quantizes in each run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archc
from archc.driver.compiled import Compiled
from archc.runtime import recurrent
from archc.targets.torch import TORCH
from tests.passes.graphs import remarks

DYNAMIC = 'quant(scheme = "dynamic", for = "onnx")'


def even(scale: float = 1.0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal((4, 6, 130), np.float32) * np.float32(scale)


def with_an_outlier() -> np.ndarray[Any, Any]:
    """Operands of which one element is 1,000 times as large as the others."""
    x = even(0.2)
    x[:, :, 0] = 0
    x[0, 0, 0] = 200
    return x


def compiled(passes: str = DYNAMIC, calib: Any = None, layer: str = "lstm(128, 2)") -> Compiled:
    text = f"model m {{ input x: f32[N, T, 130]  output y = x -> r: {layer} }}"
    return archc.compile(text, passes=passes, calib=None if calib is None else {"x": calib})


def chosen(made: Compiled) -> Any:
    (node,) = made.graph.nodes()
    return getattr(node.op, "dynamic", ())


def notes(made: Compiled) -> str:
    (report,) = made.passes
    return "\n".join(remark.message for remark in report.remarks if remark.layer == "r")


@pytest.mark.parametrize(
    ("scheme", "layer"),
    [("static", "lstm(128, 2)"), ("dynamic", "lstm(128, 2)"), ("dynamic", "gru(400, 2)"), ("static", "rnn(300, 2)")],
)
def test_layers_of_even_operands_quantize_them(scheme: str, layer: str, tmp_path: Path) -> None:
    made = compiled(f'quant(scheme = "{scheme}", for = "onnx")', even(), layer)
    assert chosen(made) == ((1,) if "gru" in layer else (0, 1))  # layer 0 of the GRU has few multiply-adds
    assert "are quantized in each run" in notes(made)
    assert archc.parse(archc.print_graph(made.graph)) == made.graph
    check = made.write(tmp_path, emit=("torch", "onnx"), check=True)["check"]
    computes_in_integers = (
        "gru" in layer and recurrent.EXACT_RECURRENT
    )  # the LSTM is too small, and an RNN is in floats
    assert (0 if computes_in_integers else 1e-3) < check["errors"]["torch"] < check["tolerance"]
    # In the others, a rounding error can change an operand by one step.
    assert check["errors"]["onnxruntime"] < (1e-3 if "lstm" in layer else check["tolerance"])


def test_a_layer_whose_operand_has_an_outlier_keeps_floats() -> None:
    made = compiled(calib=with_an_outlier())
    assert chosen(made) == (1,)
    assert "operands of layer 0 stay in floats: 8 bits change the result by" in notes(made)


def test_without_data_only_states_are_quantized() -> None:
    made = compiled()
    assert chosen(made) == (1,) and "calibration data would show their range" in notes(made)


@pytest.mark.parametrize(
    ("passes", "layer"),
    [
        ('quant(scheme = "weight")', "lstm(128, 2)"),
        ('quant(scheme = "dynamic", for = "torch")', "lstm(128, 2)"),
        ('quant(scheme = "dynamic", for = "torch")', "gru(64, 2)"),
        (DYNAMIC, "gru(128, 2)"),
        (DYNAMIC, "rnn(64, 2)"),
        (DYNAMIC, "lstm(16, 2)"),
        (DYNAMIC, "lstm(128, weight_hh_l0 = low_rank(4))"),
    ],
)
def test_other_layers_keep_float_operands(passes: str, layer: str) -> None:
    assert chosen(compiled(passes, even(), layer)) == ()


@pytest.mark.parametrize("layer", ["lstm(200, 2)", "gru(128, 2)"])
def test_limits_are_those_of_pytorch(layer: str, tmp_path: Path) -> None:
    made = compiled('quant(scheme = "dynamic", for = "torch")', even(), layer)
    assert chosen(made) == ((1,) if "lstm" in layer else (0, 1))
    check = made.write(tmp_path, emit=("torch",), check=True)["check"]
    if recurrent.EXACT_RECURRENT:
        # The error of floats is half the tolerance.  A rounding error can change an operand by one step.
        assert check["errors"]["torch"] < check["tolerance"] / 4
    limits = TORCH.runtime.break_even.recurrent_step if TORCH.runtime and TORCH.runtime.break_even else {}
    assert limits == {"lstm": recurrent.Int8LSTM.least, "gru": recurrent.Int8GRU.least, "rnn": recurrent.Int8RNN.least}


def test_layers_with_float_weights_keep_float_operands() -> None:
    assert chosen(compiled(DYNAMIC, even(), "lstm(128, 2, weight_hh_l1 = low_rank(4))")) == (0,)


def test_the_report_names_the_reason_for_small_layers() -> None:
    made = compiled(calib=even(), layer="lstm(16, 2)")
    assert "9,344 multiply-adds in a step, integers would be slower; they pay from 100,000 on" in notes(made)
    (report,) = made.passes
    assert remarks(report, "rewrote")["r"].startswith("weight: ")
