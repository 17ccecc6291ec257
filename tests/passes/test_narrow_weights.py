"""`quant` with fewer than 8 bits, f16 and bf16."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from archc.compression.calibration import moments
from archc.diagnostics import ArchcError, Diagnostics
from archc.driver.pipelines import parse_passes
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from archc.passes.quant import Quant
from archc.passmanager.calibration import Calibration
from archc.passmanager.run import run_passes
from archc.types.storage import F8E4M3, F8E5M2, Dense, Float8Storage, Int3, Int4, NarrowFloat, PackedIntegers
from archc.types.tensor_type import DType
from tests.passes.graphs import Build, mlp, remarks, run


def correlated(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Rows in a space of few dimensions, with some noise, as the operands of real layers are."""
    generator = np.random.default_rng(seed)
    data = generator.normal(size=(rows, 6)) @ np.random.default_rng(7).normal(size=(6, columns)) + 1
    return (data + 0.1 * generator.normal(size=(rows, columns))).astype(np.float32)


def network() -> Graph:
    """A convolution, residual linear layers, and an embedding that is added."""
    build = Build()
    x = build.input(4, 6, 6)
    y = build.layer("relu", build.layer("conv2d", x, 16, 3, padding=1, groups=2, name="conv"))
    y = build.layer("linear", build.layer("flatten", y), 64, name="fc")
    z = build.layer("linear", build.layer("relu", build.layer("linear", y, 64, name="up")), 64, name="down")
    ids = build.layer("embedding", build.input(dtype=DType.i64, name="ids"), 20, 64, name="wte")
    total = build.layer("add", build.layer("add", y, z), ids)
    return build.done(build.layer("linear", total, 8, name="head"))


def data(count: int = 64, seed: int = 0) -> dict[str, np.ndarray]:
    return {
        "x": correlated(count, 144, seed).reshape(count, 4, 6, 6),
        "ids": np.random.default_rng(seed).integers(0, 20, count),
    }


def error(make: Callable[[], Graph], step: Quant, samples: dict[str, np.ndarray]) -> float:
    """Relative error of the outputs on other data than those of the calibration."""
    held_out = {name: torch.from_numpy(array) for name, array in data(64, 1).items()}
    graph = make()
    before = evaluate(graph, held_out)["y0"]
    run(graph, step, data=samples)
    return float((evaluate(graph, held_out)["y0"] - before).norm() / before.norm())


@pytest.mark.parametrize("format", ["int4", "int3", "int2"])
def test_data_reduce_the_error(format: str) -> None:
    plain = error(network, Quant(format, method="rtn"), data())  # type: ignore[arg-type]
    by_data = error(network, Quant(format), data())  # type: ignore[arg-type]
    assert by_data < 0.7 * plain


@pytest.mark.parametrize(
    ("step", "storage"),
    [
        (Quant("int4"), Int4(group=32)),
        (Quant("int4", group=16, symmetric=True), Int4(group=16, symmetric=True)),
        (Quant("int4", group=1000), Int4()),
        (Quant("f16"), NarrowFloat(DType.f16)),
        (Quant("bf16"), NarrowFloat(DType.bf16)),
        (Quant("f8e4m3"), F8E4M3()),
        (Quant("f8e5m2"), F8E5M2()),
    ],
    ids=str,
)
def test_storage_of_each_layer(step: Quant, storage: PackedIntegers | NarrowFloat | Float8Storage) -> None:
    graph = network()
    report = run(graph, step, data=data())[0]
    for layer in ("fc", "up", "down", "head"):
        assert graph.weights[f"{layer}.weight"].storage == storage
        assert graph.weights[f"{layer}.bias"].storage == Dense()
    used = "gptq" if isinstance(storage, PackedIntegers) else "rtn"
    assert {remark.figures["method"] for remark in report.remarks if remark.kind == "rewrote"} == {used}
    assert set(remarks(report, "rewrote")) == {"conv", "fc", "up", "down", "wte", "head"}


def test_moments_of_wide_layers_are_f32(monkeypatch: pytest.MonkeyPatch) -> None:
    in_f64 = error(network, Quant("int4"), data())
    monkeypatch.setattr(moments, "MOST_IN_F64", 16)
    assert error(network, Quant("int4"), data()) == pytest.approx(in_f64, rel=0.2)


@pytest.mark.parametrize("text", ["quant(f16)", "quant(bf16)", 'quant("int4", group = 16)', "quant(bytes = 12MB)"])
def test_options_are_parsed_and_printed(text: str) -> None:
    (step,) = parse_passes(text)
    assert parse_passes(str(step)) == [step]


@pytest.mark.parametrize("text", ["quant(int4, group = 0)", "quant(bytes = 0)", "quant(bytes = -5)"])
def test_sizes_are_positive(text: str) -> None:
    with pytest.raises(ArchcError, match="bad-option"):
        parse_passes(text)


@pytest.mark.parametrize(
    ("step", "warning"),
    [
        (Quant("int4", bytes=100_000), "`format` of `quant` has no effect with `bytes`"),
        (Quant(group=16, bytes=100_000), "`group` of `quant` has no effect with `bytes`"),
        (Quant("int4", observer="mse"), '`observer` of `quant` has no effect without `format = "int8"`'),
        (Quant(group=16), "`group` of `quant` has no effect without `format = "),
    ],
)
def test_options_without_effect_are_reported(step: Quant, warning: str) -> None:
    graph, found = network(), Diagnostics()
    list(run_passes(graph, [step], Calibration(graph, data()), diagnostics=found))
    assert [one.message[: len(warning)] for one in found] == [warning]


def test_without_data_the_plain_method_runs_with_a_warning() -> None:
    for trained, method, expected in ((True, None, ["plain-method"]), (True, "rtn", []), (False, None, [])):
        graph, found = mlp(64, 32, 8), Diagnostics()
        step = Quant("int4", method=method)  # type: ignore[arg-type]
        reports = list(run_passes(graph, [step], Calibration(graph, trained=trained), diagnostics=found))
        assert [one.code for one in found] == expected
        assert {each.figures["method"] for each in reports[0].remarks if each.kind == "rewrote"} == {"rtn"}


def tied() -> Graph:
    build = Build()
    x = build.layer("embedding", build.input(dtype=DType.i64, name="ids"), 200, 64, name="wte")
    hidden = build.layer("linear", build.layer("relu", build.layer("linear", x, 64, name="up")), 64, name="down")
    total = build.layer("add", x, hidden)
    return build.done(build.layer("linear", total, 200, bias=False, name="head", weights={"weight": "wte.weight"}))


def test_a_shared_weight_is_stored_once_for_both_uses() -> None:
    ids = torch.arange(200)
    errors = {}
    for method in ("gptq", "rtn"):
        graph = tied()
        before = evaluate(graph, {"ids": ids})["y0"]
        report = run(graph, Quant("int3", on="wte", method=method), data={"ids": ids.numpy()})[0]  # type: ignore[arg-type]
        assert graph.weights["wte.weight"].storage == Dense()  # `head` is not selected
        report = run(graph, Quant("int3", on=("wte", "head"), method=method), data={"ids": ids.numpy()})[0]  # type: ignore[arg-type]
        assert graph.weights["wte.weight"].storage == Int3(group=32)
        assert [each.layer for each in report.remarks if each.kind == "rewrote"] == ["wte", "head"]
        errors[method] = float((evaluate(graph, {"ids": ids})["y0"] - before).norm() / before.norm())
    assert errors["gptq"] < 0.9 * errors["rtn"]


def test_scales_outside_f16_are_stored_as_f32() -> None:
    weight = np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32) * 1e-6
    graph = mlp(64, 8, weights={"fc1.weight": weight})
    run(graph, Quant("int4", method="rtn"))
    assert graph.weights["fc1.weight"].storage == Int4(group=32, scale=DType.f32)
    assert np.abs(graph.weight_values("fc1.weight") - weight).max() < 0.2 * np.abs(weight).max()


@pytest.mark.parametrize("step", [Quant("int4"), Quant("int2"), Quant(scheme="weight")], ids=str)
def test_the_remark_has_the_signal_to_noise_ratio_of_the_layer(step: Quant) -> None:
    """The first layer gets the inputs themselves, so its ratio follows from the outputs of a single layer."""
    graph = mlp(24, 16)
    x = correlated(200, 24)
    weight = graph.weight_values("fc1.weight").copy()
    (report,) = run(graph, step, data={"x": x})
    y, changed = (x @ each.T for each in (weight, graph.weight_values("fc1.weight")))
    expected = 10 * np.log10(y.var(axis=0).sum() / (changed - y).var(axis=0).sum())
    (remark,) = (remark for remark in report.remarks if remark.kind == "rewrote")
    assert remark.figures["snr_db"] == pytest.approx(expected, abs=1)  # it is measured on a part of the data
    assert remark.figures["method"] == "gptq" and f"by GPTQ, {remark.figures['error']:.2%} error" in remark.message


def test_a_weight_beyond_f16_stays_in_f32() -> None:
    weight = np.full((24, 16), 1e5, np.float32)
    graph = mlp(16, 24, 8, weights={"fc1.weight": weight})
    (report,) = run(graph, Quant("f16"))
    assert graph.weights["fc1.weight"].storage == Dense()
    assert graph.weights["fc2.weight"].storage != Dense()
    assert remarks(report, "left") == {"fc1": "`fc1.weight` has values up to 1e+05, and f16 ends at 6.55e+04"}
