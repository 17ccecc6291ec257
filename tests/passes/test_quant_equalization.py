"""`quant`: equalization of the channels between two layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from archc.analysis.layers import layers_with_weights
from archc.compression.quantization.equalization import STRENGTHS, Pair, best_equalizations
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph, Value
from archc.ir.rewriter import Rewriter
from archc.passes._equalization import _pairs
from archc.passes.quant import Quant
from archc.passmanager.run import PassReport
from archc.weights.tensor import ArrayTensor
from tests.compression.test_smoothing import batches_of
from tests.passes.graphs import Build, operators, remarks, run

CHANNELS, SIDE = 24, 10
LARGE = 32
"""Side of images for which the convolutions are large enough for integers."""
QUANT = Quant(least=0)
FACTORS = 200.0 ** -np.random.default_rng(1).random(CHANNELS)


def images(seed: int, side: int = LARGE) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((8, 8, side, side)).astype(np.float32)


def scale(graph: Graph, path: str, factors: np.ndarray) -> None:
    """Multiply the slices of a weight along its first axis by factors."""
    values = graph.weight_values(path)
    shape = (-1, *[1] * (values.ndim - 1))
    assert graph.tensors is not None
    graph.tensors.set(path, ArrayTensor((values * factors.reshape(shape)).astype(np.float32)))


def depthwise(between: str = "relu", factors: np.ndarray = FACTORS) -> Graph:
    """A pointwise, a depthwise and a pointwise convolution.

    The ranges of the channels before the depthwise convolution have these factors.
    """
    build = Build()
    x = build.layer("conv2d", build.input(8, LARGE, LARGE), CHANNELS, 1, name="expand")
    x = build.layer("conv2d", build.layer(between, x), CHANNELS, 3, padding=1, groups=CHANNELS, name="depthwise")
    graph = build.done(build.layer("conv2d", build.layer("relu", x), 48, 1, name="project"))
    for path, each in (("expand.weight", factors), ("expand.bias", factors), ("depthwise.weight", 1 / factors)):
        scale(graph, path, each)
    return graph


def error(graph: Graph, wanted: Graph) -> float:
    """Relative error on other data than the calibration data."""
    feed = {"x": torch.from_numpy(images(9))}
    found, expected = evaluate(graph, feed)["y0"], evaluate(wanted, feed)["y0"]
    return float((found - expected).norm() / expected.norm())


def equalized(report: PassReport) -> dict[str, str]:
    return {each.layer: each.message for each in report.remarks if "channels equalized" in each.message}


def pairs(graph: Graph) -> list[Pair]:
    layers = layers_with_weights(graph)
    return _pairs(graph, layers, layers)


# Gain ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("between", ["relu", "relu6", "leaky_relu", "abs"])
@pytest.mark.parametrize(("granularity", "gain"), [("channel", 3), ("tensor", 2)])
def test_unequal_channels_before_a_depthwise_convolution_get_finer_steps(
    between: str, granularity: str, gain: float
) -> None:
    quant = replace(QUANT, granularity=granularity)
    (report,) = run(graph := depthwise(between), quant, data={"x": images(0)})
    assert "channels equalized with `expand`" in equalized(report)["depthwise"]
    assert report.new_results["expand"] is None
    run(plain := depthwise(between), replace(quant, smooth=0), data={"x": images(0)})
    assert error(graph, depthwise(between)) < error(plain, depthwise(between)) / gain
    assert operators(graph) == operators(plain)


def test_equal_channels_stay() -> None:
    graphs = [depthwise(factors=np.ones(CHANNELS)) for _ in range(2)]
    for graph in graphs:
        for path in ("expand.weight", "depthwise.weight"):
            Rewriter(graph).set_weight(path, np.broadcast_to(graph.weight_values(path)[:1], graph.weights[path].shape))
        for path in ("expand.bias", "depthwise.bias"):
            scale(graph, path, np.zeros(CHANNELS))
    reports = [
        run(graph, quant, data={"x": images(0)})[0] for graph, quant in zip(graphs, (QUANT, replace(QUANT, smooth=0)))
    ]
    assert equalized(reports[0]) == {}
    assert "2 layers are not equalized with the layer before" in remarks(reports[0], "note")["net"]
    assert error(*graphs) == 0


def test_random_inputs_do_not_equalize() -> None:
    (report,) = run(depthwise(), QUANT)
    assert equalized(report) == {}


def test_the_scheme_weight_does_not_equalize() -> None:
    (report,) = run(depthwise(), replace(QUANT, scheme="weight"), data={"x": images(0)})
    assert equalized(report) == {}


def test_excluded_layers_keep_their_weights() -> None:
    (report,) = run(graph := depthwise(), replace(QUANT, keep="expand"), data={"x": images(0)})
    assert "depthwise" not in equalized(report)
    assert (graph.weight_values("expand.weight") == depthwise().weight_values("expand.weight")).all()


def test_linear_layers_are_equalized_instead_of_smoothed() -> None:
    """The layer before divides the operand, so no multiplication is needed."""
    build = Build()
    x = build.layer("relu", build.layer("linear", build.input(64), 64, name="fc1"))
    graph = build.done(build.layer("linear", x, 32, name="fc2"))
    weight = np.diag(np.where(np.arange(64) < 3, 30, 1)).astype(np.float32)
    Rewriter(graph).set_weight("fc1.weight", weight)
    data = np.random.default_rng(0).uniform(-1, 1, (512, 64)).astype(np.float32)
    (report,) = run(graph, QUANT, data={"x": data})
    assert list(equalized(report)) == ["fc2"]
    assert "fc2_smooth" not in graph.layers()


# Exactness ----------------------------------------------------------------------------------------------------


BETWEEN = ["relu", "relu6", "leaky_relu", "neg", "dropout", "prelu", "hardtanh"]


def random_chain(seed: int) -> Graph:
    """A chain of convolutions with random options, and random homogeneous operators between."""
    rng = np.random.default_rng(seed)
    build = Build()
    x = build.input(8, SIDE, SIDE)
    for number in range(4):
        channels = x.type.shape[1]
        assert isinstance(channels, int)
        groups = int(rng.choice([1, 2, channels]))
        name = f"conv{number}"
        if rng.random() < 0.2:
            x = build.layer("conv_transpose2d", x, 2 * groups, 3, groups=groups, bias=rng.random() < 0.5, name=name)
        else:
            options = {"stride": int(rng.integers(1, 3)), "padding": int(rng.integers(0, 3)), "groups": groups}
            kernel = int(rng.integers(1, 3))
            x = build.layer("conv2d", x, 2 * groups, kernel, bias=rng.random() < 0.5, name=name, **options)
        for operator in rng.choice(BETWEEN, rng.integers(0, 3)):
            limits = (-8, 8) if operator == "hardtanh" else ()
            x = build.layer(operator, x, *limits, name=f"act{len(build.graph)}" if operator == "prelu" else None)
        if rng.random() < 0.3:
            x = build.layer("avg_pool2d" if rng.random() < 0.5 else "max_pool2d", x, 2, stride=1, padding=1)
    return build.done(x)


@pytest.mark.parametrize("seed", range(12))
def test_equalization_is_exact_in_floats(seed: int) -> None:
    data = images(0, SIDE)[:4] * 8  # some elements reach the limit of relu6
    feed = {"x": torch.from_numpy(data)}
    graph = random_chain(seed)
    expected = evaluate(graph, feed)["y0"]
    changed = 0
    for strength in STRENGTHS:
        found = best_equalizations(graph, pairs(graph), batches_of(data, 2), [strength])
        for pair, best in found.items():
            before = {path: graph.weight_values(path) for path in pair.first.weights.values()}
            for path, values in pair.scaled_weights(graph, best.scales.double().numpy()).items():
                Rewriter(graph).set_weight(path, values)
            changed += any((graph.weight_values(path) != values).any() for path, values in before.items())
        torch.testing.assert_close(evaluate(graph, feed)["y0"], expected, rtol=1e-3, atol=1e-4 * float(expected.std()))
    assert changed


# Pairs --------------------------------------------------------------------------------------------------------


def names(graph: Graph) -> list[tuple[str | None, list[str | None]]]:
    return [(pair.first.path, [node.path for node in pair.second]) for pair in pairs(graph)]


def conv(build: Build, x: Value, name: str) -> Value:
    return build.layer("conv2d", x, 8, 3, padding=1, name=name)


def test_all_layers_that_use_a_result_are_scaled_together() -> None:
    build = Build()
    x = conv(build, build.input(8, SIDE, SIDE), "first")
    pooled = build.layer("max_pool2d", build.layer("relu", x), 3, stride=1, padding=1)
    graph = build.done(conv(build, x, "a"), conv(build, pooled, "b"))
    assert names(graph) == [("first", ["a", "b"])]


@pytest.mark.parametrize("other", ["add", "concat", "output", "sigmoid", "batch_norm"])
def test_other_uses_forbid_the_rewrite(other: str) -> None:
    build = Build()
    x = conv(build, build.input(8, SIDE, SIDE), "first")
    y = build.layer("relu", x)
    outputs = [conv(build, y, "second")]
    if other in ("add", "concat"):
        outputs.append(build.layer(other, y, outputs[0]))
    else:
        outputs.append(y if other == "output" else build.layer(other, y, name="bn" if other == "batch_norm" else None))
    assert names(build.done(*outputs)) == []


def test_weights_of_several_uses_and_flattened_channels_stay() -> None:
    build = Build()
    x = conv(build, conv(build, build.input(8, SIDE, SIDE), "twice"), "twice")
    x = build.layer("flatten", build.layer("relu", conv(build, x, "last")))
    assert names(build.done(build.layer("linear", x, 4, name="fc"))) == []


def test_channels_that_reach_a_limit_keep_their_scale() -> None:
    graph = depthwise("relu6", np.ones(CHANNELS))
    scale(graph, "expand.weight", np.where(np.arange(CHANNELS) < 5, 100, 1))
    pair, _ = pairs(graph)
    for best in (best_equalizations(graph, [pair], batches_of(images(0), 4), [each])[pair] for each in STRENGTHS):
        assert best.scales[:5].tolist() == [1] * 5
        assert (best.scales[5:] != 1).all()


def test_channels_of_zeros_keep_their_scale() -> None:
    graph = depthwise()
    for name in ("weight", "bias"):
        scale(graph, f"expand.{name}", np.where(np.arange(CHANNELS) < 5, 0, 1))
    pair, _ = pairs(graph)
    best = best_equalizations(graph, [pair], batches_of(images(0), 4), [0.5])[pair]
    assert best.scales[:5].tolist() == [1] * 5


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_values_that_are_not_finite_are_left_out(wrong: float) -> None:
    data = images(0)
    data[3, 0, 0, 0] = wrong
    graph = depthwise()
    assert best_equalizations(graph, pairs(graph), batches_of(data, 4)) == {}


def test_single_scales_follow_the_formula_of_the_paper() -> None:
    graph = depthwise()
    pair, _ = pairs(graph)
    found = best_equalizations(graph, [pair], batches_of(images(0), 4), [], per_channel=False)[pair]
    first, second = (graph.weight_values(f"{name}.weight") for name in ("expand", "depthwise"))
    ranges = [np.abs(weight).reshape(CHANNELS, -1).max(1).astype(np.float64) for weight in (first, second)]
    expected = np.sqrt(ranges[0] * ranges[1]) / ranges[1]
    np.testing.assert_allclose(found.scales / found.scales[0], expected / expected[0], rtol=1e-5)
    weights = pair.scaled_weights(graph, found.scales.numpy())
    equal = [np.abs(weights[f"{name}.weight"]).reshape(CHANNELS, -1).max(1) for name in ("expand", "depthwise")]
    np.testing.assert_allclose(equal[0] / equal[0][0], equal[1] / equal[1][0], rtol=1e-5)


def test_layers_without_operands_have_no_channels() -> None:
    build = Build()
    x = build.layer("linear", build.input(32), 32, name="fc")
    graph = build.done(build.layer("matmul", x, build.layer("parameter", (32, 32), name="table")))
    run(graph, Quant(least=0, smooth=0.5))
    assert graph.weights["table.weight"].storage.name == "int8"
