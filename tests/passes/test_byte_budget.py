"""`quant(bytes = ...)`: bytes of the emitted files, choice of formats, and refusals."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archc
from archc.compression.calibration import matrix_layers
from archc.compression.quantization.weight_formats import storage_of
from archc.diagnostics import ArchcError, Diagnostics
from archc.driver.latency import facts_on
from archc.ir.graph import Graph
from archc.passes import _byte_budget, _program_size
from archc.passes._byte_budget import CANDIDATES
from archc.passes._program_size import with_zeros
from archc.passes.quant import Quant
from archc.passmanager.calibration import Calibration
from archc.passmanager.run import run_passes
from archc.targets.registry import BUILT_IN, find_target
from archc.types.storage import Dense, Integers, NarrowFloat, PackedIntegers, Storage
from archc.types.tensor_type import DType
from tests.passes.graphs import mlp, run
from tests.passes.test_narrow_weights import correlated, data, error, network

IMAGES = """
model net {
    input image: f32[N, 1, 12, 12]
    output image -> conv: conv2d(8, 3) -> relu -> flatten -> fc1: linear(48) -> relu -> fc2: linear(10)
}
"""
WORDS = """
model net {
    input ids: i64[N, 6]
    output ids -> embed: embedding(300, 32) -> rnn: lstm(24) -> up: linear(64) -> relu -> down: linear(16)
}
"""


SMALL = """
model net {
    input x: f32[N, 64]
    output x -> up: linear(96) -> relu -> down: linear(32)
}
"""


def emitted_bytes(compiled: archc.Compiled, target: str, folder: Path) -> int:
    """Bytes of all files but the report."""
    report = compiled.write(folder, emit=target, check=False)
    return sum(file["bytes"] for file in report["files"].values())


@pytest.mark.parametrize(
    ("text", "target", "budget"),
    [
        (IMAGES, "onnx", 22_000),
        (IMAGES, "torch", 45_000),
        (IMAGES, "torch", 33_000),
        (WORDS, "onnx", 20_500),
        (WORDS, "torch", 47_000),
        (WORDS, "arch", 15_000),
    ],
)
def test_the_emitted_files_are_within_the_budget(text: str, target: str, budget: int, tmp_path: Path) -> None:
    compiled = archc.compile(text, passes=f"fold, quant(bytes = {budget})", emit=target)
    total = emitted_bytes(compiled, target, tmp_path)
    assert total <= budget
    (remark,) = (each.message for each in compiled.passes[1].remarks if each.message.startswith("formats within"))
    assert f"the program has {total:,};" in remark


@pytest.mark.parametrize(
    ("text", "target", "form", "budget"),
    [(SMALL, "onnx", {"onnx": "standard"}, 9_500), (SMALL, "torch", {"single_file": True}, 21_500)],
)
def test_the_budget_counts_the_form_that_is_written(
    text: str, target: str, form: dict[str, Any], budget: int, tmp_path: Path
) -> None:
    compiled = archc.compile(text, passes=f"quant(bytes = {budget})", emit=target, **form)
    other = archc.compile(text, passes=f"quant(bytes = {budget})", emit=target)
    assert emitted_bytes(compiled, target, tmp_path / "form") <= budget
    other.write(tmp_path / "other", **form, check=False)
    assert compiled.graph.weights != other.graph.weights


@pytest.mark.parametrize(
    ("target", "budget"), [("onnx", 22_000), ("onnx", 30_000), ("torch", 33_000), ("arch", 15_000)]
)
def test_no_layer_fits_with_more_bits(target: str, budget: int) -> None:
    graph = archc.compile(IMAGES).graph
    calibration = Calibration(graph)
    facts = facts_on(calibration, [found for found in [find_target(target)] if found])
    list(run_passes(graph, [Quant(bytes=budget)], calibration, targets=facts))
    storages = {layer: graph.weights[f"{layer}.weight"].storage for layer in ("conv", "fc1", "fc2")}
    assert any(isinstance(storage, PackedIntegers) for storage in storages.values())
    for layer, storage in storages.items():
        path = f"{layer}.weight"
        wider = [] if isinstance(storage, Dense) else [Dense()]
        if isinstance(storage, Integers):
            bits = {name: int(name.lstrip("intf")) for name, _ in CANDIDATES}
            groups = {name: group for name, group in reversed(CANDIDATES) if bits[name] > storage.bits}
            wider += [storage_of(name, np.ones(graph.weights[path].shape), 0, groups[name]) for name in groups]
        for other in wider:
            assert max(facts.program_bytes(with_zeros(graph, {path: other})).values()) > budget, (layer, storage, other)


@pytest.mark.parametrize("target", ["onnx", "torch"])
def test_the_least_budget_is_named_before_the_gradients(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(_byte_budget, "output_metrics", None)
        with pytest.raises(ArchcError, match="budget-too-small") as refused:
            archc.compile(WORDS, passes="quant(bytes = 1)", emit=target)
    help = refused.value.diagnostics[0].help or ""
    least = int(re.findall(r"bytes = (\d+)", help)[0])
    compiled = archc.compile(WORDS, passes=f"quant(bytes = {least})", emit=target)
    assert emitted_bytes(compiled, target, tmp_path) <= least
    with pytest.raises(ArchcError, match="budget-too-small"):
        archc.compile(WORDS, passes=f"quant(bytes = {least - 200})", emit=target)


def test_a_budget_that_is_too_small_names_the_largest_target() -> None:
    def notes(emit: str) -> list[str]:
        with pytest.raises(ArchcError, match="budget-too-small") as refused:
            archc.compile(WORDS, passes="quant(bytes = 1)", emit=emit)
        return [note.text for note in refused.value.diagnostics[0].notes]

    assert len(notes("onnx")) == 1
    assert re.match(r"these are the bytes for `torch`; .*: `onnx` [\d,]+$", notes("torch,onnx")[1])


def test_a_program_within_the_budget_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_byte_budget, "output_metrics", None)
    graph, found = network(), Diagnostics()
    calibration = Calibration(graph, trained=True)
    facts = facts_on(calibration, [])
    (report,) = run_passes(graph, [Quant(bytes=10_000_000)], calibration, targets=facts, diagnostics=found)
    assert not report.changed
    (remark,) = report.remarks
    assert remark.message.endswith("of 10,000,000: all weights stay as they are")
    assert [each.code for each in found] == ["pass-without-effect"]


def test_without_targets_the_bytes_are_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs of large models are not emitted either."""
    graph = network()
    list(run_passes(graph, [Quant(bytes=110_000)], Calibration(graph, data())))
    assert 40_000 < sum(weight.nbytes for weight in graph.weights.values()) < 60_000
    monkeypatch.setattr(_program_size, "LARGEST_EMITTED", 1000)
    large = network()
    run(large, Quant(bytes=110_000), data=data())
    assert large.weights == graph.weights


WIDE = "model m { input x: f32[N, 600]  output x -> a: linear(64) -> relu -> b: linear(8) }"
SHARED = """
model m {
    input x: f32[N, 128]
    layer l = linear(128)
    output x -> l -> relu -> l -> relu -> b: linear(8)
}
"""


@pytest.mark.parametrize(("text", "layer", "inputs", "budget"), [(WIDE, "a", 600, 24_000), (SHARED, "l", 128, 11_000)])
def test_errors_that_cannot_be_predicted_are_measured(
    text: str, layer: str, inputs: int, budget: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix_layers, "MOST_COLUMNS", 512)
    data = {"x": correlated(30, inputs)}
    compiled = archc.compile(text, passes=f"quant(bytes = {budget})", calib=data, emit="onnx")
    assert isinstance(compiled.graph.weights[f"{layer}.weight"].storage, PackedIntegers)
    assert emitted_bytes(compiled, "onnx", tmp_path) <= budget
    (report,) = compiled.passes
    predicted, stored = (each.figures for each in report.remarks if each.layer == layer and each.figures)
    assert report.error**2 / 2 < float(predicted["predicted_error"]) < 2 * report.error**2
    assert stored["method"] == "rtn"


def within(graph: Graph, share: float) -> list[Storage]:
    """Formats of the weights for a budget of this share of the program in floats."""
    facts = facts_on(Calibration(graph), BUILT_IN)
    size = max(facts.program_bytes(graph).values())
    list(run_passes(graph, [Quant(bytes=int(share * size))], Calibration(graph), targets=facts))
    return [weight.storage for path, weight in graph.weights.items() if path.endswith("weight")]


def test_a_budget_between_int8_and_floats_is_used() -> None:
    assert within(mlp(64, 256, 32), 0.8) == [NarrowFloat(DType.f16), Dense()]


def test_weights_beyond_f16_have_another_format() -> None:
    found = within(mlp(64, 256, 32, weights={"fc2.weight": np.full((32, 256), 7e4)}), 0.8)
    assert found[0] == NarrowFloat(DType.f16) != found[1]


def test_a_larger_budget_gives_a_smaller_error() -> None:
    errors = [error(network, Quant(bytes=budget), data()) for budget in (38_000, 45_000, 75_000)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0] / 4


def test_a_budget_is_better_than_one_format_of_the_same_bytes() -> None:
    graph = network()
    run(graph, Quant("int3"), data=data())
    budget = max(facts_on(Calibration(graph), BUILT_IN).program_bytes(graph).values())
    assert error(network, Quant(bytes=budget), data()) < error(network, Quant("int3"), data())


@pytest.mark.parametrize("operator", ["lstm", "gru"])
def test_recurrent_layers_have_measured_formats(operator: str, tmp_path: Path) -> None:
    text = f"model m {{ input x: f32[N, 5, 8]  output x -> rnn: {operator}(64) -> fc: linear(64) }}"
    data = {"x": correlated(40, 40).reshape(40, 5, 8)}
    compiled = archc.compile(text, passes="quant(bytes = 20kB)", calib=data, emit="onnx")
    assert emitted_bytes(compiled, "onnx", tmp_path) <= 20_000
    storages = {compiled.graph.weights[f"rnn.weight_{kind}_l0"].storage for kind in ("ih", "hh")}
    assert any(isinstance(storage, PackedIntegers) for storage in storages)
    (report,) = compiled.passes
    losses = [float(each.figures["predicted_error"]) for each in report.remarks if "predicted_error" in each.figures]
    assert report.error**2 / 4 < sum(losses) < 4 * report.error**2


def test_remarks_have_the_effect_of_each_layer_on_the_outputs() -> None:
    (report,) = run(network(), Quant(bytes=50_000), data=data())
    effects = {
        remark.layer: remark.figures["predicted_error"]
        for remark in report.remarks
        if remark.figures.get("predicted_error")
    }
    (total,) = (remark.message for remark in report.remarks if remark.message.startswith("formats within"))
    assert {"fc", "up"} <= set(effects)
    assert f"{sum(map(float, effects.values())):.2e}" in total
