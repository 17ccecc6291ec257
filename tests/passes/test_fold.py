"""`fold`: outputs agree with those of the unfolded network in PyTorch."""

from __future__ import annotations

import pytest
import torch

import archc
from archc.diagnostics import ArchcError
from archc.passes.fold import Fold
from tests.passes.graphs import Build, operators, outputs, remarks, run


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("op", "shape", "arguments", "options"),
    [
        ("linear", (12,), (8,), {}),
        ("conv1d", (12, 9), (8, 3), {}),
        ("conv2d", (12, 9, 7), (8, 3), {"groups": 4, "stride": 2, "padding": 1}),
        ("conv3d", (4, 5, 6, 7), (8, 2), {}),
        ("conv_transpose1d", (12, 9), (8, 3), {}),
        ("conv_transpose2d", (12, 5, 6), (8, 3), {"groups": 4, "stride": 2}),
    ],
)
def test_a_batch_norm_is_folded_into_the_layer_before_it(
    op: str, shape: tuple[int, ...], arguments: tuple[int, ...], options: dict[str, int], bias: bool
) -> None:
    build = Build()
    x = build.layer(op, build.input(*shape), *arguments, name="layer", bias=bias, **options)
    graph = build.done(build.layer("relu", build.layer("batch_norm", x, name="bn")))
    before = outputs(graph)["y0"]
    (report,) = run(graph, Fold())
    assert [node.op.name for node in graph.nodes()] == [op, "relu"]
    assert list(graph.weights) == ["layer.weight", "layer.bias"]
    assert torch.allclose(outputs(graph)["y0"], before, atol=1e-5)
    assert before.abs().max() > 0.1
    assert remarks(report, "rewrote") == {"bn": "folded into `layer` before it"}


def test_a_batch_norm_is_folded_into_the_linear_layer_after_it() -> None:
    build = Build()
    x = build.layer("batch_norm", build.layer("relu", build.input(12)), name="bn")
    graph = build.done(build.layer("linear", x, 5, name="fc", bias=False))
    before = outputs(graph)["y0"]
    run(graph, Fold())
    assert operators(graph) == ["relu", "linear(5)"]
    assert torch.allclose(outputs(graph)["y0"], before, atol=1e-5)


def test_two_batch_norms_are_folded() -> None:
    build = Build()
    x = build.layer("conv2d", build.input(3, 8, 8), 6, 3, name="conv")
    x = build.layer("batch_norm", build.layer("batch_norm", x, name="bn1", affine=False), name="bn2", eps=0.1)
    graph = build.done(x)
    before = outputs(graph)["y0"]
    run(graph, Fold())
    assert operators(graph) == ["conv2d(6, 3)"]
    assert torch.allclose(outputs(graph)["y0"], before, atol=1e-5)


def test_dropout_is_removed() -> None:
    build = Build()
    graph = build.done(build.layer("dropout", build.layer("relu", build.input(4)), 0.3, name="drop"))
    (report,) = run(graph, Fold())
    assert operators(graph) == ["relu"]
    assert "drop" in remarks(report, "rewrote")


def test_a_batch_norm_stays_where_folding_would_change_something_else() -> None:
    build = Build()
    image = build.input(4, 8, 8)
    used_twice = build.layer("conv2d", image, 4, 3, name="seen")
    shared = build.layer("conv2d", image, 4, 3, name="shared", padding=1)
    again = build.layer("conv2d", build.layer("relu", shared), 4, 3, name="shared", padding=1)
    padded = build.layer("conv2d", build.layer("batch_norm", image, name="bn_first"), 4, 3, name="padded", padding=1)
    graph = build.done(
        used_twice,
        build.layer("batch_norm", used_twice, name="bn_seen"),
        build.layer("batch_norm", again, name="bn_shared"),
        build.layer("batch_norm", build.layer("relu", padded), name="bn_relu"),
    )
    before = graph.canonical()
    (report,) = run(graph, Fold())
    assert graph.canonical() == before
    assert remarks(report, "left") == {
        "bn_first": "its operand is not the result of a layer",
        "bn_seen": "the result of `seen` has other uses",
        "bn_shared": "`shared` is used more than once",
        "bn_relu": "`relu` before it has no weight to fold into",
    }


def test_the_channels_of_a_batch_norm_must_be_those_of_the_weight() -> None:
    build = Build()
    x = build.layer("linear", build.input(7, 5), 6, name="fc")  # [N, 7, 6]: the channels of `bn` are axis 1, of size 7
    graph = build.done(build.layer("batch_norm", x, name="bn"))
    (report,) = run(graph, Fold())
    assert remarks(report, "left") == {"bn": "its channels are not an axis of the weight of `fc`"}


def test_kept_layers_stay() -> None:
    build = Build()
    x = build.layer("conv2d", build.input(3, 8, 8), 6, 3, name="conv")
    graph = build.done(build.layer("batch_norm", x, name="bn"))
    (report,) = run(graph, Fold(keep="bn"))
    assert remarks(report, "left") == {"bn": "not selected"}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("given", [{"running_var": -1.0}, {"running_var": 0.0, "weight": 3e38}])
def test_a_weight_that_becomes_infinite_or_nan_is_refused(given: dict[str, float]) -> None:
    text = "model m { input x: f32[N, 3, 8, 8]  output y = x -> conv: conv2d(4, 3) -> bn: batch_norm -> relu }"
    graph = archc.compile(text).graph
    weights = {path: graph.weight_values(path).copy() for path in graph.weights}
    for name, value in given.items():
        weights[f"bn.{name}"][:] = value
    with pytest.raises(ArchcError, match=r"makes the weight `conv\.weight` and 1 other infinite or NaN") as refused:
        archc.compile(text, weights=weights, passes="fold")
    assert refused.value.diagnostics[0].code == "pass-not-finite"
