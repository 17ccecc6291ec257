"""`quant`: warnings where it did less than its options ask for."""

from __future__ import annotations

import numpy as np
import pytest

import archc

NETWORK = """
model net {
    input x: f32[N, 6, 8]
    output x -> rnn: RECURRENT(8) -> fc: linear(16) -> relu -> head: linear(4)
}
"""
CONVOLUTION = "model net { input x: f32[N, 3, 8, 8]  output x -> conv: conv2d(8, 3) -> relu }"
TABLE = "model net { input x: i64[N, 5]  output x -> table: embedding(10, 4) }"


def warnings(text: str, passes: str, recurrent: str = "lstm") -> dict[str, list[str]]:
    """The warnings of a compilation with calibration data, by code."""
    text = text.replace("RECURRENT", recurrent)
    rng = np.random.default_rng(0)
    if "i64" in text:
        data = rng.integers(0, 10, (32, 5))
    else:
        data = rng.normal(size=(32, 3, 8, 8) if "conv" in text else (32, 6, 8)).astype(np.float32)
    found: dict[str, list[str]] = {}
    for each in archc.compile(text, passes=passes, calib={"x": data}, emit="onnx").diagnostics.warnings:
        found.setdefault(each.code, []).append(each.message)
    return found


@pytest.mark.parametrize(
    ("text", "passes", "layers"),
    [
        (NETWORK, "quant", 3),
        (NETWORK, 'quant(scheme = "dynamic", keep = "head")', 2),
        (NETWORK, "quant(training = true)", 3),
        (CONVOLUTION, 'quant(scheme = "dynamic", least = 0)', 1),
    ],
)
def test_operands_that_all_stay_in_floats_are_reported(text: str, passes: str, layers: int) -> None:
    (message,) = warnings(text, passes)["operands-in-floats"]
    assert message.endswith(f"quantized weights only: 0 of {layers} layers compute in integers")


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        (NETWORK, "quant(least = 0)"),
        (NETWORK, 'quant(scheme = "weight")'),
        (NETWORK, "quant(int4)"),
        (TABLE, "quant"),  # has no operand to quantize
    ],
)
def test_what_was_asked_gives_no_warning(text: str, passes: str) -> None:
    assert warnings(text, passes) == {}


def test_an_integer_recurrent_layer_gives_no_warning() -> None:
    text = "model net { input x: f32[N, 6, 8]  output x -> rnn: lstm(8) -> wide: lstm(512) }"
    assert warnings(text, 'quant(scheme = "dynamic")') == {}


@pytest.mark.parametrize("quant", ["quant(training = true, least = 0)", "quant(int4, training = true)"])
def test_factors_that_stay_in_floats_are_reported(quant: str) -> None:
    (message,) = warnings(NETWORK, f"lowrank(rank = 2), {quant}")["storage-not-quantized"]
    assert message.endswith("left weights of `rnn` in floats: they are stored as `low_rank(2)`")
    assert warnings(NETWORK, f'lowrank(rank = 2, keep = "rnn"), {quant}') == {}
    assert warnings(NETWORK, f"lowrank(rank = 2), {quant[:-1]}, keep = 'rnn')".replace("'", '"')) == {}


@pytest.mark.parametrize(
    ("passes", "recurrent", "nearest"),
    [
        ('quant(int4, method = "gptq")', "lstm", True),
        ('quant(int8, method = "gptq", least = 0)', "lstm", False),
        ('quant(int8, method = "gptq", least = 0)', "gru", True),
        ('quant(int8, method = "gptq", granularity = "tensor", least = 0, on = "rnn")', "lstm", True),
    ],
)
def test_layers_without_gptq_are_reported(passes: str, recurrent: str, nearest: bool) -> None:
    found = warnings(NETWORK, passes, recurrent).get("plain-method", [])
    assert [message.endswith("to nearest, such as those of `rnn`") for message in found] == [True] * nearest
