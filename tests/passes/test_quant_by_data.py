"""`quant`: int8 weights and the granularity of dynamic operands, chosen by calibration data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from archc.compression.quantization.weight_formats import Format
from archc.diagnostics import Diagnostics
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from archc.ops.quantize import Quantize
from archc.passes.quant import Quant
from archc.passmanager.calibration import Calibration
from archc.passmanager.run import run_passes
from archc.types.storage import Dense, Int8
from archc.types.tensor_type import DType, TensorType
from tests.passes.graphs import Build, mlp, run
from tests.passes.test_narrow_weights import correlated, data, network


def convolutions() -> Graph:
    """Convolutions, then a residual addition of linear layers."""
    build = Build()
    x = build.layer("relu", build.layer("conv2d", build.input(4, 6, 6), 16, 3, padding=1, name="conv"))
    x = build.layer("relu", build.layer("conv2d", x, 16, 3, padding=1, groups=2, name="grouped"))
    y = build.layer("linear", build.layer("flatten", x), 64, name="fc")
    z = build.layer("linear", build.layer("relu", build.layer("linear", y, 64, name="up")), 64, name="down")
    return build.done(build.layer("linear", build.layer("add", y, z), 8, name="head"))


def images(seed: int) -> dict[str, np.ndarray]:
    return {"x": data(64, seed)["x"]}


def error(make: Callable[[], Graph], step: Quant) -> float:
    """Relative error of the outputs on other data than those of the calibration."""
    held_out = {name: torch.from_numpy(array) for name, array in images(1).items()}
    graph = make()
    before = evaluate(graph, held_out)["y0"]
    run(graph, step, data=images(0))
    return float((evaluate(graph, held_out)["y0"] - before).norm() / before.norm())


@pytest.mark.parametrize(("scheme", "share"), [("static", 0.995), ("dynamic", 0.99), ("weight", 0.6)])
def test_data_reduce_the_error(scheme: str, share: float) -> None:
    """With quantized operands, most of the error is theirs."""
    plain = error(convolutions, Quant(scheme=scheme, method="rtn", least=0, granularity="channel"))  # type: ignore[arg-type]
    by_data = error(convolutions, Quant(scheme=scheme, least=0, granularity="channel"))  # type: ignore[arg-type]
    assert by_data < share * plain


@pytest.mark.parametrize("count", [1, 4, 16])
@pytest.mark.parametrize("name", ["int4", "int8"])
def test_few_samples_do_not_increase_the_error_on_other_data(name: Format, count: int) -> None:
    """The rows are independent noise, so that all that GPTQ can learn from few of them is wrong."""
    errors: dict[str, float] = {"rtn": 0, "gptq": 0}
    for seed in range(4):
        generator = np.random.default_rng(seed)
        x, other = (generator.normal(size=(rows, 4, 64)).astype(np.float32) for rows in (count, 100))
        held_out = {"x": torch.from_numpy(other)}
        for method in errors:
            build = Build()
            hidden = build.layer("relu", build.layer("linear", build.input(4, 64), 64, name="fc"))
            graph = build.done(build.layer("linear", hidden, 16, name="head"))
            before = evaluate(graph, held_out)["y0"]
            run(graph, Quant(name, method=method, scheme="weight" if name == "int8" else "static"), data={"x": x})  # type: ignore[arg-type]
            errors[method] += float((evaluate(graph, held_out)["y0"] - before).square().sum())
    assert errors["gptq"] < 1.1 * errors["rtn"]  # 5 % in the norm


def test_the_plain_method_and_single_scales_keep_biases() -> None:
    for step in (Quant(method="rtn", least=0), Quant(granularity="tensor", least=0)):
        graph, before = convolutions(), convolutions()
        run(graph, step, data=images(0))
        for path in ("conv.bias", "fc.bias"):
            assert np.array_equal(graph.weight_values(path), before.weight_values(path))


def test_biases_absorb_the_mean_of_the_errors_of_operands() -> None:
    """The means of results are those of the float model, although the operands are quantized."""
    graph, before = mlp(64, 32), mlp(64, 32)
    samples = {"x": correlated(64, 64) ** 3}
    run(graph, Quant(least=0, smooth=0), data=samples)
    feed = {"x": torch.from_numpy(samples["x"])}
    found, wanted = (evaluate(each, feed)["y0"].mean(0) for each in (graph, before))
    plain = mlp(64, 32)
    run(plain, Quant(least=0, smooth=0, method="rtn"), data=samples)
    offset = float((evaluate(plain, feed)["y0"].mean(0) - wanted).norm())
    assert float((found - wanted).norm()) < 0.02 * offset


def test_shared_weights_and_embeddings_are_rounded_to_nearest() -> None:
    build = Build()
    x = build.input(64)
    first = build.layer("linear", x, 64, name="fc")
    other = build.layer("linear", first, 64, name="other")
    tied = build.layer("linear", other, 64, name="tied", weights={"weight": "other.weight"}, bias=False)
    graph = build.done(build.layer("linear", tied, 64, name="fc"))
    before = {path: graph.weight_values(path) for path in graph.weights}
    run(graph, Quant(least=0, smooth=0), data={"x": correlated(64, 64)})
    for path, values in before.items():
        if path.endswith("weight"):
            nearest = Int8(0).encode(path, values)
            assert graph.weights[path].storage == Int8(0)
            assert np.array_equal(
                graph.weight_values(path), Int8(0).decode(path, nearest, (), graph.weights[path].dtype)
            )
        else:
            assert graph.weights[path].storage == Dense() and np.array_equal(graph.weight_values(path), values)
    run(embedding := network(), Quant(scheme="weight"), data=data())
    values = network().weight_values("wte.weight")
    assert np.abs(embedding.weight_values("wte.weight") - values).max() <= np.abs(values).max() / 127 / 2 * 1.001


def test_operands_that_are_not_finite_leave_the_weight_finite() -> None:
    build = Build()
    x = build.input(64)
    graph = build.done(build.layer("linear", build.layer("log", x), 64, name="fc"))
    run(graph, Quant(scheme="weight"), data={"x": np.abs(correlated(64, 64)) * (np.arange(64) > 0)})
    assert all(np.isfinite(graph.weight_values(path)).all() for path in graph.weights)


def tokens(seed: int = 0) -> np.ndarray:
    """Texts with a token whose elements are fifty times as large as those of the others."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(16, 12, 64)).astype(np.float32)
    x[:, 3] *= 50
    return x


def granularities(step: Quant, samples: np.ndarray | None) -> set[str]:
    build = Build()
    graph = build.done(build.layer("linear", build.input(12, 64), 32, name="fc"))
    run(graph, step, data=None if samples is None else {"x": samples})
    return {node.op.granularity for node in graph.nodes() if isinstance(node.op, Quantize)}


def test_operands_with_large_tokens_get_a_scale_for_each_token() -> None:
    dynamic = Quant(scheme="dynamic", least=0)
    assert granularities(dynamic, tokens()) == {"token"}
    assert granularities(dynamic, np.random.default_rng(0).normal(size=(16, 12, 64)).astype(np.float32)) == {"tensor"}
    assert granularities(dynamic, None) == {"tensor"}
    assert granularities(Quant(scheme="dynamic", least=0, granularity="channel"), tokens()) == {"tensor"}
    assert granularities(Quant(scheme="dynamic", least=0, method="rtn"), tokens()) == {"tensor"}


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Quant(scheme="dynamic", least=0), ["plain-method"]),
        (Quant(scheme="weight"), ["plain-method"]),
        (Quant(scheme="weight", method="rtn"), []),
        (Quant(least=0), ["random-calibration"]),
        (Quant(bytes=47_000), ["random-calibration"]),
    ],
    ids=str,
)
def test_trained_weights_without_data_give_one_warning(step: Quant, expected: list[str]) -> None:
    graph, found = mlp(64, 32, 8), Diagnostics()
    list(run_passes(graph, [step], Calibration(graph, trained=True), diagnostics=found))
    assert [one.code for one in found if one.code in ("plain-method", "random-calibration")] == expected


@pytest.mark.parametrize("step", [Quant(scheme="weight"), Quant("int4"), Quant(bytes=50_000)], ids=str)
def test_layers_without_an_axis_of_samples_are_rounded_to_nearest(step: Quant) -> None:
    """The operand of `fc` is one vector, and the index of `table` one number."""
    build = Build()
    vector = build.rewriter.input("x", TensorType(DType.f32, (64,)))
    index = build.rewriter.input("i", TensorType(DType.i64, ()))
    row = build.layer("embedding", index, 500, 64, name="table")
    graph = build.done(build.layer("linear", build.layer("add", vector, row), 16, name="fc"))
    (report,) = run(graph, replace(step, method="gptq" if step.bytes is None else None))
    methods = {each.layer: each.figures["method"] for each in report.remarks if each.kind == "rewrote"}
    assert {*methods.values()} == {"rtn"}
    if step.bytes is None:
        assert {graph.weights[path].storage.name for path in ("fc.weight", "table.weight")} == {step.format or "int8"}


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_large_tokens_do_not_spoil_the_bias_for_small_ones(name: Format) -> None:
    def tokens_of_sizes(seed: int) -> np.ndarray:
        sizes = np.array([1, 0.01, 1000, 0.01])[:, None]
        return (np.random.default_rng(seed).normal(size=(100, 4, 64)) * sizes).astype(np.float32)

    errors = {}
    for method in ("rtn", "gptq"):
        build = Build()
        graph = build.done(build.layer("linear", build.input(4, 64), 16, name="fc"))
        held_out = {"x": torch.from_numpy(tokens_of_sizes(1))}
        before = evaluate(graph, held_out)["y0"]
        scheme = {"scheme": "weight"} if name == "int8" else {}
        run(graph, Quant(name, method=method, **scheme), data={"x": tokens_of_sizes(0)})  # type: ignore[arg-type]
        errors[method] = (evaluate(graph, held_out)["y0"] - before)[:, [1, 3]].norm()
    assert errors["gptq"] < 3 * errors["rtn"]


@pytest.mark.parametrize(("name", "warns"), [("f16", True), ("f8e4m3", True), ("int8", False), ("int4", False)])
def test_a_method_without_integers_gives_a_warning(name: Format, warns: bool) -> None:
    found = Diagnostics()
    list(run_passes(mlp(64, 32, 8), [Quant(name, method="rtn")], Calibration(mlp(64, 32, 8)), diagnostics=found))
    assert [one.message.split(" has")[0] for one in found if one.code == "option-without-effect"] == (
        ["`method` of `quant`"] if warns else []
    )
