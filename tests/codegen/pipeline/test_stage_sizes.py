"""Stages that compute a size from an axis with a larger expression, such as `2 * H + 1`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from archc.codegen.onnx import to_model
from archc.codegen.pipeline import split
from archc.compiler import compile as compile_text
from archc.diagnostics import ArchcError
from archc.interpreter.evaluate import evaluate as run
from archc.ir.graph import Graph
from archc.types.axis_expressions import AxisExpressions
from archc.types.dims import evaluate, symbol
from archc.types.tensor_type import DType, TensorType
from tests.codegen.torch_modules import graph_of, imported

SPEECH = """
model speech {
    input s: f32[N, 1, L]
    h = s -> c0: conv1d(32, 10, stride = 5) -> transpose(1, 2) -> to_stage(1)
    output y = (h, h, h) -> attention(4)
}
"""
RESHAPED = """
model reshaped {
    input s: f32[N, 1, L]
    h = s -> c0: conv1d(32, 10, stride = 5) -> transpose(1, 2) -> to_stage(1)
    let frames = (L - 10) // 5 + 1
    output y = h -> reshape((N, frames, 4, 8)) -> transpose(1, 2) -> reshape((N, 2 * frames, 16))
}
"""
DOUBLED = """
model doubled {
    input s: f32[N, 4, 2 * H + 1]
    h = s -> to_stage(1) -> conv_transpose1d(8, 2, stride = 2) -> to_stage(2)
    output y = h -> flatten -> unsqueeze(1) -> conv1d(2, 3) -> upsample(scale_factor = 1.3)
}
"""
PRODUCT = """
model product {
    input s: f32[N, 2, H, W]
    h = s -> c0: conv2d(8, 3, padding = 1) -> flatten(2) -> transpose(1, 2) -> to_stage(1)
    output y = (h, h, h) -> attention(4)
    output m = h -> mean(1)
    output r = h -> flatten(0, 1) -> to_stage(2) -> t: linear(4)
}
"""
SKIPS = """
model skips {
    input s: f32[N, 2, H, W]
    a = s -> c0: conv2d(4, 3, stride = 2)
    b = a -> c1: conv2d(4, 3, stride = 2, padding = 1)
    x = b -> to_stage(1)
    y = (a -> to_stage(1) -> c2: conv2d(4, 3, stride = 2, padding = 1)) + x
    output z = y -> flatten(2) -> transpose(1, 2) -> to_stage(2) -> fc: linear(8)
}
"""
RECURRENT = """
model recurrent {
    input s: f32[N, 1, L]
    x = s -> c0: conv1d(8, 10, stride = 5) -> transpose(1, 2) -> to_stage(1)
    y, h = x -> gru(4, return_state = true)
    scan y_t in y -> to_stage(2), z = h[0] -> to_stage(2) {
        z = y_t + z -> fc: linear(4) -> tanh
        yield r = z
    }
    output r
}
"""
TEXTS = {
    "speech": SPEECH,
    "reshaped": RESHAPED,
    "doubled": DOUBLED,
    "product": PRODUCT,
    "skips": SKIPS,
    "recurrent": RECURRENT,
}

SUM = """
model sum {
    input a: f32[N, A, 4]
    input b: f32[N, B, 4]
    output y = (a, b) -> concat(1) -> to_stage(1) -> reshape((N * (A + B), 4))
}
"""
TOKENS = """
model tokens {
    input x: f32[N, 4, A, B]
    h = (x -> flatten(2) -> transpose(1, 2), zeros((N, 1, 4))) -> concat(1) -> to_stage(1) -> fc: linear(4)
    output y = h -> reshape((N * (A * B + 1), 4))
}
"""
QUOTIENTS = """
model quotients {
    input x: f32[N, 2, A, B]
    h = x -> c0: conv2d(2, 3, stride = 2) -> flatten(2) -> to_stage(1)
    let rows = (A - 3) // 2 + 1
    let columns = (B - 3) // 2 + 1
    output y = (h, zeros((N, 2, 1)) -> to_stage(1)) -> concat(2) -> reshape((2 * N * (rows * columns + 1),))
    output z = (h, h) -> concat(2) -> reshape((4 * N, rows * columns))
}
"""
WITH_NAMED = """
model with_named {
    input x: f32[N, 2, A]
    input w: f32[N, 2, B]
    y = (x -> max_pool1d(3, stride = 2) -> to_stage(1), w -> to_stage(1)) -> concat(2)
    output z = y + (arange((A - 3) // 2 + 1 + B) -> cast(f32) -> to_stage(1))
}
"""
NESTED = """
model nested {
    input x: f32[N, 2, A]
    input w: f32[N, 2, B]
    h = x -> max_pool1d(3, stride = 2) -> max_pool1d(3, stride = 2)
    y = (h -> to_stage(1), w -> to_stage(1)) -> concat(2)
    output z = y + (arange(((A - 3) // 2 - 2) // 2 + 1 + B) -> cast(f32) -> to_stage(1))
}
"""
COMBINED = {"sum": SUM, "tokens": TOKENS, "quotients": QUOTIENTS, "with named": WITH_NAMED, "nested": NESTED}


@pytest.mark.parametrize("batch", [0, 3])
@pytest.mark.parametrize("name", TEXTS)
def test_every_stage_runs_in_pytorch_and_onnx(name: str, batch: int, tmp_path: Path) -> None:
    graph = graph_of(TEXTS[name])
    shape = [batch, *(19 if not isinstance(dim, int) else dim for dim in graph.inputs[0].type.shape[1:])]
    compare_stages(graph, {"s": shape}, tmp_path)
    assert all(len(stage.graph.inputs) <= 3 for stage in split(graph))


@pytest.mark.parametrize("sizes", [(0, 9, 8), (2, 8, 9), (3, 7, 12)])
@pytest.mark.parametrize("name", COMBINED)
def test_sums_and_products_of_sizes_run_in_pytorch_and_onnx(
    name: str, sizes: tuple[int, int, int], tmp_path: Path
) -> None:
    graph = graph_of(COMBINED[name])
    given = dict(zip("NAB", sizes, strict=True))
    compare_stages(
        graph, {str(own.name): [evaluate(dim, sizes=given) for dim in own.type.shape] for own in graph.inputs}, tmp_path
    )
    told = {own.name for own in graph.inputs} if name not in ("with named", "nested") else {"x"}
    assert not told & {own.name for own in split(graph)[1].graph.inputs}


def compare_stages(graph: Graph, shapes: Mapping[str, Sequence[int]], tmp_path: Path) -> None:
    """Run all stages in PyTorch and ONNX Runtime; compare the results with those of the whole model."""
    generator = torch.manual_seed(0)
    inputs = {key: torch.randn(list(shape), generator=generator) for key, shape in shapes.items()}
    expected = run(graph, inputs)
    arrays = {key: value.numpy() for key, value in inputs.items()}
    tensors = list(inputs.values())
    for stage in split(graph):
        session = onnxruntime.InferenceSession(to_model(stage.graph).SerializeToString())
        names = [output.name for output in session.get_outputs()]
        arrays = dict(zip(names, session.run(names, arrays), strict=True))
        results = imported(stage.graph, tmp_path).load()(*tensors)
        tensors = list(results) if isinstance(results, tuple) else [results]
    for (key, value), tensor in zip(expected.items(), tensors, strict=True):
        np.testing.assert_allclose(arrays[key], value.numpy(), atol=1e-5)
        torch.testing.assert_close(tensor, value, atol=1e-5, rtol=1e-4)


def test_no_input_is_sent_for_a_size_that_an_axis_has() -> None:
    for text in (SPEECH, RESHAPED):
        assert [len(stage.graph.inputs) for stage in split(graph_of(text))] == [1, 1]


def test_a_checked_compile_of_stages_that_relay_outputs(tmp_path: Path) -> None:
    """An output that a stage only relays keeps its values after the memory of its input is freed."""
    compile_text(PRODUCT).write(tmp_path, check=True)


def test_sizes_that_no_input_determines_are_an_error_with_a_way_out() -> None:
    """Stage 1 adds tensors of the sizes `(A*B)*(C*D)` and `(A*C)*(B*D)`, and cannot derive their equality."""
    graph = graph_of("""
        model crossed {
            input x: f32[A, B, C, D]
            h = x -> flatten(2) -> flatten(0, 1) -> to_stage(1)
            g = x -> transpose(1, 2) -> flatten(2) -> flatten(0, 1) -> to_stage(1)
            output y = (h -> flatten(0)) + (g -> flatten(0))
        }
    """)
    with pytest.raises(ArchcError) as caught:
        split(graph)
    (found,) = caught.value.diagnostics
    assert found.code == "stage-size"
    assert found.span is not None
    assert found.help == (
        "write numbers for `A`, `B`, `C` and `D` in the types of the model's inputs, or begin stage 1 after this"
    )


A, B, C = symbol("A"), symbol("B"), symbol("C")
H, W, L = symbol("H"), symbol("W"), symbol("L")
FRAMES = (L - 10) // 5 + 1
ASSIGNMENTS = (
    {"H": 3, "W": 5, "L": 61, "A": 7, "B": 4, "C": 2},
    {"H": 4, "W": 1, "L": 12, "A": 2, "B": 9, "C": 1},
    {"H": 1, "W": 2, "L": 33, "A": 5, "B": 5, "C": 6},
)


@pytest.mark.parametrize(
    ("axes", "wanted"),
    [
        ((FRAMES,), FRAMES * 2 + 1),
        ((FRAMES,), (FRAMES + 1) // 2),
        ((H * W,), H * W * 4),
        ((H * W, H), W),
        ((H * W, H), W * 3 + H),
        ((H * W * 2 + 6,), H * W),
        ((H * W + H,), H * W * 3 + H * 3 + 1),
        (((L - 1) // 2 + 1, ((L - 1) // 2) // 2 + 1), ((L - 1) // 2) // 2 + 1),
        ((A + B, C), C * A * 4 + C * B * 4),
        ((A + B, A + C), B - C),
        ((A + B, H * A + H * B), H),
        ((A * C + B * C, C), A + B + 1),
        ((A * 2 + B, H), A * 3 * H + B * H + A * H - B + B * H + B),
        ((H // 2, (H // 2) * (W // 3) + W // 3), (W // 3) * 5),
        ((A + L // 2, L), (A + 1) // 3),
        ((A * B + B,), (A * B + B) * (A * B + B) * 2 + A * B + B),
    ],
    ids=str,
)
def test_sizes_follow_from_axes(axes: tuple[int, ...], wanted: int) -> None:
    names = iter("abcd")
    shown = AxisExpressions([TensorType(DType.f32, axes)], lambda: next(names))
    found = shown.express(wanted)
    assert found is not None
    for values in ASSIGNMENTS:
        named = {str(name): evaluate(axis, sizes=values) for axis, name in shown.named.items()}
        assert evaluate(found, sizes={**values, **named}) == evaluate(wanted, sizes=values)


def test_sizes_that_do_not_follow_from_axes_are_none() -> None:
    shown = AxisExpressions([TensorType(DType.f32, (H * W, L // 2))], lambda: "a")
    assert shown.express(H) is None
    assert shown.express(L) is None
