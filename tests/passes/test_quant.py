"""`quant`: storage of weights, placement of `quantize`, and layers that stay in floating point."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import archc
from archc.compression.quantization.ranges import Range
from archc.ir.graph import Graph
from archc.passes.fold import Fold
from archc.passes.quant import Quant
from archc.passmanager import Pass, make_pass
from archc.types.attributes import AttributeProblem
from archc.types.dims import symbol
from archc.types.storage import Dense, Int8
from archc.types.tensor_type import DType, TensorType
from tests.passes.graphs import Build, mlp, operators, outputs, remarks, run

SMALL = 65_536
"""Value of `least`, the multiply-adds from which a layer is quantized; small, for small layers."""


def quantizers(graph: Graph) -> dict[str, str]:
    """Return the producer of the operand of each `quantize`: its path, or the name of its operator."""
    found = {}
    for node in graph.nodes():
        if node.op.name == "quantize":
            producer = node.operands[0].producer
            found[node.path or ""] = "x" if producer is None else producer.path or producer.op.name
    return found


@given(st.integers(0, 1000), st.sampled_from([(7, 5), (8, 3, 3, 3), (1, 40)]), st.sampled_from(["channel", "tensor"]))
@settings(max_examples=40, deadline=None)
def test_the_error_of_a_weight_is_at_most_half_a_step(seed: int, shape: tuple[int, ...], spread: str) -> None:
    weight = (np.random.default_rng(seed).standard_normal(shape) * 10.0 ** (seed % 7 - 3)).astype(np.float32)
    storage = Int8(axis=0 if spread == "channel" else None)
    stored = storage.encode("w", weight)
    error = np.abs(storage.decode("w", stored, weight.shape, DType.f32) - weight)
    rows = np.abs(weight).reshape(len(weight), -1).max(1)
    step = (rows if spread == "channel" else np.full_like(rows, rows.max())) / 127
    assert (error.reshape(len(weight), -1) <= step[:, None] / 2 * (1 + 1e-4)).all()


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_zero_is_exact_and_the_ends_of_a_range_are_within_half_a_step(a: float, b: float) -> None:
    seen = Range.around(min(a, b), max(a, b))
    scale, zero_point = seen.affine()
    assert 0 <= zero_point <= 255
    assert scale * (0 - zero_point) == pytest.approx(seen.low, abs=scale * 0.51)
    assert scale * (255 - zero_point) >= seen.high - scale * 0.51


def test_static_quantizes_the_operand_of_each_layer() -> None:
    graph = mlp(256, 512, 256)
    data = np.random.default_rng(3).uniform(-2, 3, (200, 256)).astype(np.float32)
    before = outputs(graph)["y0"]
    (report,) = run(graph, Quant(least=SMALL), data={"x": data})
    assert quantizers(graph) == {"fc1_in": "x", "fc2_in": "relu"}
    scale, zero_point = graph.weight_values("fc1_in.scale"), graph.weight_values("fc1_in.zero_point")
    assert scale == pytest.approx((data.max() - data.min()) / 255, rel=1e-5)
    assert zero_point == round(-data.min() / scale)
    assert graph.weight_values("fc2_in.zero_point") == 0  # the range of a relu's result begins at 0
    assert graph.weights["fc1.weight"].storage == graph.weights["fc2.weight"].storage == Int8(axis=0)
    assert report.after.bytes < report.before.bytes / 3.8
    error = (outputs(graph)["y0"].clamp(-9, 9) - before).norm() / before.norm()
    assert 0 < error < 0.3  # some random inputs are outside the range of the data
    assert 0 < report.error < 0.02


def test_percentiles_clip_outliers() -> None:
    data = np.random.default_rng(0).uniform(0, 1, (256, 300)).astype(np.float32)
    data[0, 0] = 100
    graph = mlp(300, 300)
    run(graph, Quant(observer="percentile", percentile=99.9, smooth=0, least=SMALL), data={"x": data})
    assert graph.weight_values("fc1_in.scale") * 255 < 1.2
    whole = mlp(300, 300)
    run(whole, Quant(observer="minmax", least=SMALL), data={"x": data})
    assert whole.weight_values("fc1_in.scale") * 255 == pytest.approx(100, rel=1e-5)


def test_one_quantize_serves_all_layers_that_receive_a_value() -> None:
    build = Build()
    x = build.layer("relu", build.input(256))
    heads = [build.layer("linear", x, 256, name=name) for name in ("query", "key", "value")]
    graph = build.done(*heads)
    run(graph, Quant(least=SMALL))
    assert quantizers(graph) == {"query_in": "relu"}


def test_dynamic_follows_the_data_in_linear_layers() -> None:
    build = Build()
    x = build.layer("conv2d", build.input(3, 12, 12), 16, 3, name="conv")
    graph = build.done(build.layer("linear", build.layer("flatten", x), 64, name="fc"))
    before = outputs(graph)["y0"]
    run(graph, Quant(scheme="dynamic", least=SMALL))
    assert [op for op in operators(graph) if "quantize" in op] == ["quantize(u8, dynamic = true)", "dequantize"]
    assert graph.weights["conv.weight"].storage == Int8(axis=0)
    assert torch.allclose(outputs(graph)["y0"], before, atol=0.05)


def test_each_token_has_a_dynamic_scale() -> None:
    build = Build()
    graph = build.done(build.layer("linear", build.input(5, 256), 256, name="fc"))
    before = outputs(graph)["y0"]
    run(graph, Quant(scheme="dynamic", granularity="token", least=SMALL))
    assert [op for op in operators(graph) if "quantize" in op] == [
        'quantize(u8, dynamic = true, granularity = "token")',
        'dequantize(granularity = "token")',
    ]
    assert graph.weights["fc.weight"].storage == Int8(axis=0)
    assert torch.allclose(outputs(graph)["y0"], before, atol=0.05)


def test_weight_quantizes_no_activations() -> None:
    build = Build()
    x = build.layer("embedding", build.input(4, dtype=DType.i64, name="ids"), 50, 32, name="wte")
    graph = build.done(build.layer("linear", x, 8, name="fc"))
    run(graph, Quant(scheme="weight"))
    assert operators(graph) == ["embedding(50, 32)", "linear(8)"]
    assert {weight.path: weight.storage for weight in graph.weights.values()} == {
        "wte.weight": Int8(axis=0),
        "fc.weight": Int8(axis=0),
        "fc.bias": Dense(),
    }


def test_a_small_layer_is_quantized_within_a_chain() -> None:
    alone = mlp(16, 16)
    (report,) = run(alone, Quant(least=SMALL))
    assert quantizers(alone) == {}
    assert remarks(report, "rewrote")["fc1"].startswith("weight")
    chain = mlp(256, 512, 10)
    run(chain, Quant(least=SMALL))
    assert quantizers(chain) == {"fc1_in": "x", "fc2_in": "relu"}


def test_least_is_the_size_from_which_layers_are_quantized() -> None:
    for least, found in ((131_072, "static"), (131_073, "weight")):
        (report,) = run(mlp(256, 512), Quant(least=least))
        assert remarks(report, "rewrote")["fc1"].startswith(found)
    slower = "`static` would be slower: it has 131,072 multiply-adds, fewer than"
    assert remarks(report, "note")["fc1"] == f"{slower} `least = 131073`"
    (report,) = run(mlp(256, 512), Quant())
    way = "`least = 0` quantizes its operand"
    assert remarks(report, "note")["fc1"] == f'{slower} 400,000, the limit of `for = "torch"`; {way}'
    with pytest.raises(AttributeProblem, match="must not be below 0"):
        make_pass("quant", [], {"least": -1})


@pytest.mark.parametrize(("option", "wrong"), [
    ("group", 0), ("bytes", 0), ("least", -1), ("smooth", 2.0), ("percentile", 40.0), ("granularity", "token"),
    ("training", True), ("on", ()),
])  # fmt: skip
def test_a_refused_option_has_a_help_that_is_accepted(option: str, wrong: object) -> None:
    options = {option: wrong} | ({"format": "f16"} if option == "training" else {})
    with pytest.raises(AttributeProblem) as caught:
        make_pass("quant", [], options)
    written = re.findall("`(.*?)`", caught.value.help or "")[0]
    step = written if written.startswith("quant") else f"quant({written})"
    text = "model m { input x: f32[N, 8]  output y = x -> fc: linear(4) }"
    assert archc.compile(text, passes=step).graph.weights


@pytest.mark.parametrize(("width", "scheme", "found"), [
    (600, "static", "weight"), (700, "static", "static"), (700, "dynamic", "weight"), (900, "dynamic", "dynamic")
])  # fmt: skip
def test_dynamic_needs_a_larger_layer_than_static(width: int, scheme: str, found: str) -> None:
    (report,) = run(mlp(width, width, width), Quant(scheme=scheme))  # type: ignore[arg-type]
    assert remarks(report, "rewrote")["fc1"].startswith(found)


def test_a_value_between_convolutions_is_quantized_once() -> None:
    build = Build()
    x = build.layer("conv2d", build.input(16, 16, 16), 32, 3, name="conv1")
    x = build.layer("max_pool2d", build.layer("relu", x), 2)
    x = build.layer("relu", build.layer("conv2d", x, 32, 3, name="conv2"))
    graph = build.done(build.layer("linear", build.layer("flatten", x), 10, name="fc"))
    run(graph, Quant(least=SMALL))
    assert quantizers(graph) == {"conv1_in": "x", "conv2_in": "max_pool2d", "fc_in": "flatten"}


def test_the_result_of_a_last_convolution_is_quantized() -> None:
    build = Build()
    x = build.layer("relu", build.input(32, 12, 12))
    y = build.layer("conv2d", x, 32, 3, padding=1, name="conv1")
    y = build.layer("conv2d", build.layer("relu", y), 32, 3, padding=1, name="conv2")
    graph = build.done(build.layer("avg_pool2d", build.layer("relu", build.layer("add", x, y)), 12))
    before = outputs(graph)["y0"]
    run(graph, Quant(least=SMALL))
    assert quantizers(graph) == {"conv1_in": "relu", "conv2_in": "relu", "conv2_out": "conv2"}
    add = next(node for node in graph.nodes() if node.op.name == "add")
    assert add.operands[0] is x  # only `conv1` receives the quantized operand
    assert add.operands[1].producer is not None and add.operands[1].producer.op.name == "dequantize"
    assert torch.allclose(outputs(graph)["y0"], before, atol=0.02)


def test_a_small_convolution_without_integer_consumers_keeps_its_floats() -> None:
    build = Build()
    x = build.layer("conv2d", build.input(6, 14, 14), 16, 5, name="first")
    x = build.layer("conv2d", build.layer("relu", x), 16, 3, name="second")
    graph = build.done(build.layer("tanh", x))
    (report,) = run(graph, Quant(least=SMALL))
    assert quantizers(graph) == {}, "without the second, no layer uses the integers of the first"
    group = 16 * 6 * 5 * 5 * 10 * 10 + 16 * 16 * 3 * 3 * 8 * 8
    slower = "`static` would be slower: between floats, it and its integer neighbours have"
    assert remarks(report, "note")["second"] == f"{slower} {group:,} multiply-adds, fewer than 1,000,000"
    assert all(isinstance(graph.weights[f"{name}.weight"].storage, Int8) for name in ("first", "second"))


def test_the_result_of_a_convolution_is_quantized_for_all_consumers() -> None:
    build = Build()
    x = build.layer("relu", build.layer("conv2d", build.input(32, 12, 12), 32, 3, padding=1, name="conv1"))
    y = build.layer("conv2d", x, 32, 3, padding=1, name="conv2")
    graph = build.done(build.layer("add", x, y))
    run(graph, Quant(least=SMALL))
    assert quantizers(graph) == {"conv1_in": "x", "conv1_out": "relu", "conv2_out": "conv2"}


def test_tied_weights_become_integers_together_or_not_at_all() -> None:
    def tied() -> Graph:
        build = Build()
        x = build.layer("embedding", build.input(4, dtype=DType.i64, name="ids"), 1024, 128, name="wte")
        return build.done(build.layer("linear", x, 1024, name="head", weights={"weight": "wte.weight"}))

    together = tied()
    (report,) = run(together, Quant(scheme="dynamic", least=SMALL))
    assert together.weights["wte.weight"].storage == Int8(axis=0)
    assert set(remarks(report, "rewrote")) == {"wte", "head"}
    apart = tied()
    (report,) = run(apart, Quant(keep="wte"))
    assert apart.weights["wte.weight"].storage == Dense()
    assert remarks(report, "left")["head"] == "it shares its weight with `wte`, which is not quantized"


def test_a_layer_used_twice_is_quantized_in_both_uses() -> None:
    build = Build()
    first = build.layer("linear", build.input(256), 256, name="fc")
    graph = build.done(build.layer("linear", build.layer("relu", first), 256, name="fc"))
    run(graph, Quant(least=SMALL))
    assert quantizers(graph) == {"fc_in": "x", "fc_in2": "relu"}


def test_quantize_of_an_element_of_a_list_is_an_element_of_a_list() -> None:
    text = """
    model net {
        input x: f32[N, 256]
        layer h[0] = linear(256)
        output y: f32[N, 256] = x -> h[0] -> relu -> h[0]
    }
    """
    graph = archc.compile(text, passes="quant(least = 0)").graph
    assert quantizers(graph) == {"h_in.0": "x", "h_in2.0": "relu"}
    assert archc.parse(archc.print_graph(graph)) == graph


def test_a_second_run_changes_nothing() -> None:
    graph = mlp(256, 512, 10)
    run(graph, Quant(least=SMALL))
    before = graph.canonical()
    (report,) = run(graph, Quant(least=SMALL))
    assert graph.canonical() == before
    assert set(remarks(report, "left")) == {"fc1", "fc2"}


def test_random_calibration_is_noted_and_non_finite_data_are_refused() -> None:
    assert "random inputs" in remarks(run(mlp(256, 256), Quant(least=SMALL))[0], "note")["net"]
    data = np.full((8, 256), np.nan, np.float32)
    graph = mlp(256, 256)
    (report,) = run(graph, Quant(least=SMALL), data={"x": data})
    assert remarks(report, "left") == {"fc1": "its calibration data have no finite range"}
    assert quantizers(graph) == {}


def test_normalization_has_no_integer_form() -> None:
    build = Build()
    (report,) = run(build.done(build.layer("layer_norm", build.input(256), name="ln")), Quant(least=SMALL))
    assert remarks(report, "left") == {"ln": "`layer_norm` has no integer form"}


def test_foldable_norms_are_noted() -> None:
    """The note names the norms that `fold` would remove, and is absent after `fold`."""

    def network() -> Graph:
        build = Build()
        x = build.layer("relu", build.input(16, 16, 16))
        for number in (1, 2):
            conv = build.layer("conv2d", x, 16, 3, name=f"conv{number}")
            x = build.layer("relu", build.layer("batch_norm", conv, name=f"bn{number}"))
        return build.done(build.layer("batch_norm", x, name="bn3"))

    def noted(*passes: Pass) -> list[str]:
        *_, report = run(network(), *passes)
        return [remark.message for remark in report.remarks if remark.layer == "net" and "fold" in remark.message]

    way = 'run it before `quant`, `--passes "fold, quant"`'
    assert noted(Quant()) == [f"`fold` can remove `bn1` and 1 more: {way}"]
    assert noted(Quant(keep="conv1")) == [f"`fold` can remove `bn2`: {way}"]
    assert noted(Fold(), Quant()) == noted(Quant(keep="conv*")) == []


def test_invalid_options_are_refused() -> None:
    with pytest.raises(AttributeProblem, match="percentile"):
        make_pass("quant", ["int8"], {"percentile": 30.0})
    with pytest.raises(AttributeProblem, match="granularity"):
        make_pass("quant", ["int8"], {"granularity": "token"})
    with pytest.raises(AttributeProblem, match="format"):
        make_pass("quant", ["int7"])
    assert str(make_pass("quant", ["int8"], {"keep": "fc2"})) == 'quant(format = "int8", keep = "fc2")'


def test_macs_of_a_convolution_depend_on_the_image_size_of_the_data() -> None:
    def with_data(size: int) -> dict[str, str]:
        build = Build()
        image = build.rewriter.input("image", TensorType(DType.f32, (symbol("N"), 16, symbol("H"), symbol("W"))))
        graph = build.done(build.layer("conv2d", image, 16, 3, name="conv"))
        data = np.random.default_rng(0).standard_normal((4, 16, size, size)).astype(np.float32)
        return remarks(run(graph, Quant(least=SMALL), data={"image": data})[0], "rewrote")

    assert with_data(4)["conv"].startswith("weight")
    assert with_data(40)["conv"].startswith("static")


BLOCKS = """
block Unit(kernel) { input x  output x -> conv: conv2d(16, kernel, padding = "same") -> relu }
block Reduce {
    input x
    output (x -> down: conv2d(16, 3, stride = 2) -> relu, x -> max_pool2d(3, stride = 2)) -> concat(dim = 1)
}
block Mixed {
    input x
    output (x -> wide: Unit(3), x -> avg_pool2d(3, stride = 1, padding = 1) -> pooled: Unit(1)) -> concat(dim = 1)
}
model m {
    input image: f32[N, 16, 16, 16]
    x = image -> stem: Unit(3) -> reduce: Reduce
    for i in 0..2 { x = x -> mixed[i]: Mixed }
    output x -> flatten -> fc: linear(10)
}
"""


def test_blocks_have_the_quantized_values_as_inputs() -> None:
    """Each input of a block is used in the block, else its name would be lost in the text."""
    graph = archc.compile(BLOCKS, passes="quant(least = 0)").graph
    scopes = {scope for node in graph.nodes() for scope in node.scope.ancestors()}
    for scope in scopes:
        for value in scope.inputs:
            assert any(scope in user.scope.ancestors() for user in graph.consumers(value)), scope.path
