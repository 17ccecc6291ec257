"""`Compiled.sensitivity`: layers, formats, reasons and mistakes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import archc
from archc.diagnostics import ArchcError, Diagnostics

NET = """
model net {
    input x: f32[N, 6, 16]
    h = x -> rnn_in: linear(24) -> lstm1: lstm(24) -> up: linear(32) -> relu -> down: linear(16)
    output y = h + x
}
"""
SCAN = """
model net {
    input x: f32[N, T, 8]
    scan item in x, h = zeros((N, 8)) { h = (item -> inner: linear(8)) + h }
    output out = h -> outer: linear(4)
}
"""
SCALAR = "model net { input x: f32[N, 8]  output loss = x -> fc: linear(4) -> mean((0, 1)) }"


def data(*shape: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).normal(size=shape).astype(np.float32)}


def test_layers_formats_and_reasons() -> None:
    compiled = archc.compile(NET, calib=data(40, 6, 16))
    found = compiled.sensitivity(formats=("int4", "f16"), measure=1)
    by = {each.layer: each for each in found.layers}
    assert set(by) == {"rnn_in", "lstm1", "up", "down"}
    assert by["lstm1"].reason == "`lstm` has 2 weights"
    assert by["up"].bytes == 24 * 32 * 4 and by["up"].formats["f16"].bytes == 24 * 32 * 2
    # 24 columns are one group: 12 bytes of integers, an f16 scale and a zero point in a byte for each of 32 rows.
    assert by["up"].formats["int4"].bytes == 32 * (12 + 2 + 1)
    losses = [each.formats["int4"].known_loss or 0 for each in found.layers]
    assert losses == sorted(losses, reverse=True) and min(losses) > 0
    assert found.worst is found.layers[0]
    assert by["lstm1"].formats["int4"].measured is not None
    unmeasured = compiled.sensitivity(formats=("int4", "f16"), sort="file", measure=0)
    assert [each.layer for each in unmeasured.layers] == ["rnn_in", "lstm1", "up", "down"]
    assert unmeasured.layers[1].formats["int4"].measured is None


def test_json_is_valid_also_for_exact_results() -> None:
    weights = {"fc.weight": np.zeros((4, 8), np.float32), "fc.bias": np.ones(4, np.float32)}
    text = "model net { input x: f32[N, 8]  output x -> fc: linear(4) }"
    found = archc.compile(text, weights=weights, calib=data(40, 8)).sensitivity()
    (layer,) = json.loads(json.dumps(found.to_json(), allow_nan=False))["layers"]
    assert layer["formats"]["int8"]["signal_to_noise"] is None and layer["formats"]["int8"]["loss"] == 0


def test_models_with_scans_and_with_scalar_outputs() -> None:
    found = archc.compile(SCAN, calib=data(8, 5, 8)).sensitivity(formats=("int4",), sort="file")
    assert [(each.layer, each.reason) for each in found.layers] == [("inner", "it is in a scan"), ("outer", None)]
    assert all((each.formats["int4"].measured or 0) > 0 for each in found.layers)
    (layer,) = archc.compile(SCALAR, calib=data(8, 8)).sensitivity(formats=("int4",)).layers
    assert (layer.formats["int4"].loss or 0) > 0


def test_layers_that_are_stored_already() -> None:
    compiled = archc.compile(NET, passes="quant(int4, on = 'up')", calib=data(40, 6, 16))
    found = {each.layer: each for each in compiled.sensitivity(formats=("int8",), measure=0).layers}
    assert (found["up"].reason or "").startswith("its weight is stored as int4") and not found["up"].formats
    assert found["down"].formats["int8"].loss


def test_trained_weights_on_random_inputs() -> None:
    warned = Diagnostics()
    graph = archc.parse(NET)
    weights = {path: np.ones(weight.shape, np.float32) for path, weight in graph.weights.items()}
    archc.compile(NET, weights=weights, diagnostics=warned).sensitivity(formats=("int8",), measure=0)
    assert [each.code for each in warned] == ["random-calibration"]


@pytest.mark.parametrize(("formats", "names"), [("int4", ("int4",)), ("int8, f16", ("int8", "f16"))])
def test_formats_as_a_text(formats: str, names: tuple[str, ...]) -> None:
    assert archc.compile(SCALAR).sensitivity(formats, measure=0).formats == names


@pytest.mark.parametrize("options", [{"formats": 4}, {"formats": [4]}, {"group": 2.5}, {"sort": 4}])
def test_arguments_of_a_wrong_type(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(TypeError, match=rf"`{name}` takes .*, (not|and one item is) (int|float)"):
        archc.compile(SCALAR).sensitivity(**options)


def test_a_model_without_weights() -> None:
    with pytest.raises(ArchcError) as refused:
        archc.compile(NET, weights="none").sensitivity()
    assert [each.code for each in refused.value.diagnostics] == ["needs-weights"]


@pytest.mark.parametrize(
    "options", [{"formats": ("int7",)}, {"formats": ()}, {"sort": "loss"}, {"group": 0}, {"measure": -1}]
)
def test_wrong_arguments(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"formats are int8|`sort` is|at least"):
        archc.compile(NET).sensitivity(**options)
