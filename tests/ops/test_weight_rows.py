"""`weight_rows`: the product of the rows with the weight is the result, for all attributes."""

from __future__ import annotations

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from archc.declaration import OPERATORS
from archc.declaration.base import OperatorError
from archc.interpreter.evaluate import evaluate
from tests.passes.graphs import Build


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[str, dict[str, object], tuple[int, ...]]:
    axes = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 2]))
    sizes = draw(st.tuples(*[st.integers(3, 7)] * axes))

    def per_axis(most: int, least: int = 1) -> tuple[int, ...] | int:
        return draw(st.tuples(*[st.integers(least, most)] * axes)) if axes > 1 else draw(st.integers(least, most))

    options = {
        "out_channels": 2 * groups,
        "kernel_size": per_axis(3),
        "stride": per_axis(2),
        "dilation": per_axis(2),
        "padding": draw(st.sampled_from(["same", "valid"])) if draw(st.booleans()) else per_axis(2, 0),
        "groups": groups,
        "bias": draw(st.booleans()),
    }
    if options["padding"] == "same":
        options["stride"] = 1
    return f"conv{axes}d", options, (2 * groups, *sizes)


@settings(max_examples=80, deadline=None)
@given(convolutions())
def test_a_convolution_is_a_product_of_rows(case: tuple[str, dict[str, object], tuple[int, ...]]) -> None:
    name, options, shape = case
    build = Build()
    x = build.input(*shape)
    try:
        y = build.layer(name, x, name="c", **options)
    except OperatorError:  # the dilated kernel is larger than the image
        assume(False)
    graph = build.done(y)
    data = torch.randn(3, *shape)
    node = graph.layers()["c"]
    result = evaluate(graph, {"x": data})["y0"]
    rows = node.op.weight_rows(data)
    assert rows is not None
    weight = torch.from_numpy(graph.weight_values("c.weight").copy())
    weight = weight.reshape(rows.shape[0], -1, rows.shape[2])
    product = torch.cat(list(rows @ weight.mT), 1)
    if options["bias"]:
        product = product + torch.from_numpy(graph.weight_values("c.bias").copy())
    assert torch.allclose(product, node.op.result_rows(result), atol=1e-5)


def test_a_linear_layer_is_a_product_of_rows() -> None:
    op = OPERATORS["linear"](5, bias=False)
    x, weight = torch.randn(2, 3, 4), torch.randn(5, 4)
    rows = op.weight_rows(x)
    assert rows is not None and rows.shape == (1, 6, 4)
    assert torch.allclose(rows[0] @ weight.T, op.result_rows(x @ weight.T), atol=1e-6)


def test_operators_that_are_no_product_have_no_rows() -> None:
    for name in ("relu", "conv_transpose2d", "lstm", "embedding"):
        assert OPERATORS[name].weight_rows is OPERATORS["relu"].weight_rows
