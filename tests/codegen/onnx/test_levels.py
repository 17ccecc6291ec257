"""Whole models at every optimization level of ONNX Runtime, against PyTorch.

Fusions depend on the neighbours of a node, so an operator that is correct alone can be wrong in a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import archc
from archc.codegen.onnx import to_model
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from archc.weights.tensor import ArrayTensor
from tests.ops.runtimes import at_every_level

SPECS = Path(__file__).parents[3] / "specs"
Arrays = Mapping[str, np.ndarray[Any, Any]]


def agree(graph: Graph, inputs: Arrays, tolerance: float) -> None:
    """Compare each level with PyTorch; the tolerance is relative to the largest element, or to 1."""
    expected = evaluate(graph, {name: torch.from_numpy(array) for name, array in inputs.items()})
    for runtime, results in at_every_level(to_model(graph), inputs):
        for (name, tensor), found in zip(expected.items(), results, strict=True):
            assert found.dtype == tensor.numpy().dtype, f"{runtime}, {name}"
            bound = tolerance * max(1.0, float(tensor.abs().max()) if tensor.numel() else 0.0)
            np.testing.assert_allclose(found, tensor.numpy(), rtol=0, atol=bound, err_msg=f"{runtime}, {name}")


def floats(*shape: int, dtype: str = "f4", seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


TOLERANCES = {"f16": ("f2", 1e-2), "f32": ("f4", 1e-5), "f64": ("f8", 1e-13)}

SCALED = {
    "one value for all": "v = x * 0.5  y = (v, v, v) -> scaled_dot_product_attention",
    "divided": "v = x / 3  y = (v, v, v) -> scaled_dot_product_attention(scale = 0.7)",
    "a factor before": "v = 0.3 * x  y = (v * 0.4, v, v) -> scaled_dot_product_attention",
    "three factors": "a = x * 0.3  b = a * 0.7  y = (b, a, b) -> scaled_dot_product_attention",
    "causal": "v = x * 0.5  y = (v, v, v) -> scaled_dot_product_attention(is_causal = true)",
    "transposed": """
        v = x * 0.5
        t = v -> transpose(1, 2)
        y = (t, t, v -> transpose(1, 2)) -> scaled_dot_product_attention""",
    "transposed before": "v = (x -> transpose(2, 3)) * 0.5  y = (v, v, v) -> scaled_dot_product_attention",
    "two attentions": """
        v = x * 0.5
        a = (v, v, v) -> scaled_dot_product_attention
        y = (a, v, a) -> scaled_dot_product_attention""",
    "cross": "v = x * 0.5  y = (x, v, v) -> scaled_dot_product_attention",
    "heads": """
        v = (x -> flatten(0, 1)) * 0.5
        y = (v, v, v) -> attention(5) -> reshape((-1, 8, 6, 5))""",
    "heads that share keys": """
        v = (x -> flatten(0, 1)) * 0.5
        w = (x -> flatten(0, 1))[:, :, :1] * 0.5
        y = (v, w, w) -> attention(5, kv_heads = 1) -> reshape((-1, 8, 6, 5))""",
    "products alone": """
        v = x * 0.5
        w = v * 0.3
        a = (w, x -> transpose(2, 3)) -> matmul
        y = ((v, x -> transpose(2, 3)) -> matmul) + a""",
    "a scaled product": """
        a = (x, x -> transpose(2, 3)) -> matmul
        b = a * 0.3
        y = ((b * 0.7, x) -> matmul) + ((b, x) -> matmul)""",
}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("body", SCALED.values(), ids=SCALED)
def test_products_of_scaled_values(body: str, dtype: str) -> None:
    statements = body.replace("  y =", "\n y =").replace("  b =", "\n b =")
    text = f"model m {{\n input x: {dtype}[N, 8, 6, 5]\n {statements}\n output o = y\n}}"
    numpy_dtype, tolerance = TOLERANCES[dtype]
    agree(archc.compile(text).graph, {"x": floats(3, 8, 6, 5, dtype=numpy_dtype)}, tolerance)


@pytest.mark.parametrize(
    "pool", ["max_pool2d(2, stride = 1)", "avg_pool2d(2, stride = 1)", "max_pool2d(3, padding = 1)"]
)
@pytest.mark.parametrize("padding", ["(1, 1, 1, 1)", "(2, 0, 0, 1)", "(0, 1), value = 0.5", "(1, 1), value = -inf"])
def test_a_pool_includes_the_padding_before_it(pool: str, padding: str) -> None:
    """All elements of the operand are negative, so the padded zeros are the largest elements."""
    graph = archc.parse(f"model m {{ input x: f32[N, 2, 4, 4]  output y = x -> pad({padding}) -> {pool} }}")
    agree(graph, {"x": -1 - np.abs(floats(2, 2, 4, 4))}, 1e-6)


NO_OPS = (
    "p -> identity",
    "p -> cast(f32)",
    "p -> dropout(0.5)",
    "p -> permute((0, 1, 2))",
    "p -> transpose(1, 2) -> transpose(1, 2)",
    "p -> unsqueeze(1) -> squeeze(1)",
    "p[:, :]",
    "p * 1",
    "p + 0",
    "p - 0",
    "p / 1",
)
FUSED = {
    "padding into a max pool": "p = x -> pad((1, 1))  NO_OP  output y = t -> max_pool1d(3)",
    "padding into an average": "p = x -> pad((1, 1))  NO_OP  output y = t -> avg_pool1d(3)",
    "two quantizers": "p = x -> q0: quantize(u8) -> dequantize  NO_OP  output y = t -> q1: quantize(u8) -> dequantize",
    "a quantized input": "p = x -> q0: quantize(u8) -> dequantize  NO_OP  output y = t -> c: conv1d(4, 3)",
    "two factors": "p = x * 0.3  NO_OP  u = t * 0.7  s = p -> transpose(1, 2)\n"
    "  output y = (u, s) -> matmul  output z = (t, s) -> matmul",
}
GRIDS = {"q0.scale": 0.05, "q0.zero_point": 100, "q1.scale": 0.11, "q1.zero_point": 120}


@pytest.mark.parametrize("no_op", NO_OPS)
@pytest.mark.parametrize("body", FUSED.values(), ids=FUSED)
def test_no_ops_do_not_allow_wrong_fusions(body: str, no_op: str) -> None:
    """Wrong fusions are prevented across no-ops, which ONNX Runtime removes before it fuses nodes."""
    statements = body.replace("NO_OP", f"t = {no_op}").replace("  ", "\n    ")
    graph = archc.compile(f"model m {{\n    input x: f32[N, 4, T]\n    {statements}\n}}").graph
    for name, value in GRIDS.items():
        if name in graph.weights:
            dtype = np.uint8 if name.endswith("zero_point") else np.float32
            graph.tensors.set(name, ArrayTensor(np.array(value, dtype)))
    agree(graph, {"x": floats(2, 4, 9) * 3 - 4}, 1e-4)


def test_padding_next_to_a_pool_after_moves_of_transposes() -> None:
    text = """
    model m {
        input x: f32[N, 8, 8, 3]
        y = x -> permute((0, 3, 1, 2)) -> c: conv2d(4, 3) -> permute((0, 2, 3, 1)) -> pad((0, 0, 1, 1, 1, 1))
        output z = y -> permute((0, 3, 1, 2)) -> max_pool2d(3, stride = 2)
    }
    """
    graph = archc.compile(text).graph
    graph.tensors.set("c.bias", ArrayTensor(np.full(4, -100, np.float32)))
    agree(graph, {"x": floats(2, 8, 8, 3)}, 1e-5)


PADDED_BATCH = """
block Layer(heads) {
    input x: f32[B, T, D]
    input mask: MASK[B, 1, T, T]
    q, k, v = x -> ln1: layer_norm -> qkv: linear(3 * D) -> chunk(3, 2)
    x = x + ((q, k, v, mask) -> attention(heads) -> o: linear(D))
    output x + (x -> ln2: layer_norm -> up: linear(4 * D) -> gelu -> down: linear(D))
}
model padded(D = 16) {
    input x: f32[N, T, D]
    input mask: MASK[N, 1, T, T]
    for i in 0..2 { x = (x, mask) -> h[i]: Layer(4) }
    output y = x
}
"""


@pytest.mark.parametrize("dtype", ["bool", "f32"])
def test_padding_reaches_no_valid_token(dtype: str) -> None:
    """The first sample has no padding, the second has two tokens of padding, the third has only padding."""
    graph = archc.compile(PADDED_BATCH.replace("MASK", dtype)).graph
    valid = np.arange(5) < np.array([[5], [3], [0]])
    mask = valid[:, None, :, None] & valid[:, None, None, :]
    x = floats(3, 5, 16)
    given = mask if dtype == "bool" else np.where(mask, np.float32(0), np.float32("-inf"))
    agree(graph, {"x": x, "mask": given}, 1e-5)
    whole = evaluate(graph, {"x": torch.from_numpy(x), "mask": torch.from_numpy(given)})["y"]
    assert whole.isfinite().all()
    alone = {"x": torch.from_numpy(x[1:2, :3]), "mask": torch.from_numpy(given[1:2, :, :3, :3])}
    torch.testing.assert_close(whole[1:2, :3], evaluate(graph, alone)["y"])


def test_bert_with_a_sample_of_padding() -> None:
    small = {"vocab": 30, "width": 16, "depth": 2, "heads": 2, "context": 8}
    graph = archc.compile(SPECS / "bert.arch", values=small).graph
    tokens = np.random.default_rng(0).integers(0, 30, (2, 6))
    mask = np.arange(6) < np.array([[4], [0]])
    agree(graph, {"tokens": tokens, "segments": np.zeros_like(tokens), "mask": mask}, 1e-5)


ROUNDED = {
    "reshape": "x -> q0: quantize(i8) -> dequantize -> reshape((-1, 8, 2, 4))",
    "transpose": "x -> q0: quantize(i8) -> dequantize -> transpose(1, 2)",
    "permute and reshape": "x -> q0: quantize(i8) -> dequantize -> permute((0, 2, 3, 1)) -> flatten(1)",
    "unsqueeze and squeeze": "x -> q0: quantize(i8) -> dequantize -> unsqueeze(1) -> max_pool3d(1) -> squeeze(1)",
    "slice": "(x -> q0: quantize(i8) -> dequantize)[:, 1:3]",
    "one place": "(x -> q0: quantize(i8) -> dequantize)[:, 1]",
    "concat": "(x -> q0: quantize(i8) -> dequantize, x -> q1: quantize(i8) -> dequantize) -> concat(1) -> flatten(2)",
    "max_pool2d": "x -> q0: quantize(i8) -> dequantize -> max_pool2d(3, stride = 2, padding = 1) -> relu",
    "avg_pool2d": "x -> q0: quantize(i8) -> dequantize -> flatten(0, 1) -> unsqueeze(1) -> avg_pool2d(2)",
    "relu": "x -> q0: quantize(i8) -> dequantize -> relu -> q1: quantize(i8) -> dequantize -> transpose(1, 3)",
    "pool before": "x -> max_pool2d(2) -> q0: quantize(i8) -> dequantize",
    "slice before": "x[:, 1:3] -> q0: quantize(i8) -> dequantize",
    "reshape before": "x -> reshape((-1, 16)) -> q0: quantize(i8) -> dequantize",
    "along an axis": "x -> q0: quantize(i8, axis = 1) -> dequantize(axis = 1) -> transpose(1, 2)",
    "along an axis, added": """(x -> q0: quantize(u8, axis = 1) -> dequantize(axis = 1)) + x
        -> q1: quantize(i8) -> dequantize""",
    "to an axis": "x + x -> q0: quantize(u8, axis = 1) -> dequantize(axis = 1)",
    "two grids": "x -> q0: quantize(u8) -> dequantize -> q1: quantize(u8) -> dequantize -> reshape((-1, 4))",
    "two signed grids": "x -> q0: quantize(i8) -> dequantize -> flatten(1) -> q1: quantize(i8) -> dequantize",
    "a weight of floats": "x -> q0: quantize(u8) -> dequantize -> fc: linear(3) -> q1: quantize(u8) -> dequantize",
    "unsigned": "x -> q0: quantize(u8) -> dequantize -> reshape((-1, 8, 2, 4)) -> max_pool2d(2)",
}


@pytest.mark.parametrize("stages", ROUNDED.values(), ids=ROUNDED)
def test_moves_of_rounded_values(stages: str) -> None:
    text = f"model m {{\n input x: f32[N, 4, 4, 4]\n y = {stages}\n output z = y\n}}"
    graph = archc.compile(text).graph
    random = np.random.default_rng(1)
    assert graph.tensors is not None
    for path, weight in graph.weights.items():
        if path.endswith(".scale"):
            graph.tensors.set(path, ArrayTensor(random.uniform(0.02, 0.05, weight.shape).astype("f4")))
        elif path.endswith(".zero_point"):
            signed = weight.dtype.value == "i8"
            points = random.integers(-20, 20, weight.shape) + (0 if signed else 120)
            graph.tensors.set(path, ArrayTensor(points.astype("i1" if signed else "u1")))
    agree(graph, {"x": floats(3, 4, 4, 4)}, 1e-5)


DECIDED_BY_TYPES = {
    "x -> squeeze": lambda n, t: (n, t, 4),
    "x[:, 0] -> squeeze": lambda n, t: (n, t, 4),
    "x -> squeeze(1) -> squeeze": lambda n, t: (n, t, 4),
    "x -> squeeze -> unsqueeze(0) -> squeeze": lambda n, t: (n, t, 4),
    "x -> flatten(1)": lambda n, t: (n, 4 * t),
    "x -> flatten(1) -> flatten": lambda n, t: (n, 4 * t),
    "x -> reshape((N, -1))": lambda n, t: (n, 4 * t),
    "x -> reshape((-1, 2))": lambda n, t: (2 * n * t, 2),
    "x -> reshape((T, N, 2, 2))": lambda n, t: (t, n, 2, 2),
    "x -> flatten(0, 1) -> unflatten(0, (N, -1)) -> squeeze": lambda n, t: (n, t, 4),
    "x -> rearrange('n 1 t (h e) -> (n h) t e', h = 2)": lambda n, t: (2 * n, t, 2),
    "x -> permute((0, 2, 1, 3)) -> flatten(2)": lambda n, t: (n, t, 4),
    "x -> mean(2)": lambda n, t: (n, 1, 4),
    "x -> mean": lambda n, t: (),
    "x -> var(2, correction = 0)": lambda n, t: (n, 1, 4),
    "x -> std(2)": lambda n, t: (n, 1, 4),
    "x -> sum((0, 2))": lambda n, t: (1, 4),
    "x -> argmax(-1, keepdim = true)": lambda n, t: (n, 1, t, 1),
    "x -> softmax(2)": lambda n, t: (n, 1, t, 4),
    "(x, x) -> concat(2)": lambda n, t: (n, 1, 2 * t, 4),
    "x -> expand((N, 3, T, 4))": lambda n, t: (n, 3, t, 4),
    "x[:, 0, :, 1:3]": lambda n, t: (n, t, 2),
}


@pytest.mark.parametrize(("stages", "shape"), DECIDED_BY_TYPES.items(), ids=DECIDED_BY_TYPES)
def test_the_types_decide_at_every_size(stages: str, shape: Callable[[int, int], tuple[int, ...]]) -> None:
    graph = archc.compile(f"model m {{\n input x: f32[N, 1, T, 4]\n output y = {stages}\n}}").graph
    for n, t in ((0, 3), (1, 3), (2, 3), (2, 0), (2, 1), (1, 1)):
        x = floats(n, 1, t, 4)
        assert evaluate(graph, {"x": torch.from_numpy(x)})["y"].shape == shape(n, t), (n, t)
        agree(graph, {"x": x}, 1e-5)
