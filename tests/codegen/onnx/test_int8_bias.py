"""Biases of integer layers: an error of at most one step in PyTorch and at each level of ONNX Runtime.

A step is the product of the scales of the operand and of a row of the weight.  A channel whose weights are all zero has
no step, so its result must equal its bias, up to the rounding of float32.  The reference multiplies the dequantized
operand and weight in float64.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from archc.codegen.onnx import check, to_model
from archc.declaration import OPERATORS
from archc.declaration.base import Operator
from archc.declaration.traits import Quantizable
from archc.ir.graph import Graph
from archc.ops.quantize import Dequantize, Quantize
from archc.types.storage import Int8
from archc.types.tensor_type import DType
from archc.weights.tensor import ArrayTensor
from tests.codegen.torch_modules import imported
from tests.ops.runtimes import at_every_level

from .cases import Model, N

Array = np.ndarray[Any, Any]

LAYERS: dict[str, tuple[tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = {
    "linear": ((8,), {}, (12,)),
    "linear of rank 3": ((8,), {}, (3, 12)),
    "conv1d": ((8, 5), {}, (8, 9)),
    "conv2d": ((8, 3), {"padding": 1}, (4, 6, 6)),
    "conv2d of few terms": ((8, 3), {}, (2, 6, 6)),
    "conv2d in groups": ((8, 3), {"groups": 2}, (8, 5, 5)),
    "conv2d by channel": ((8, 3), {"groups": 8}, (8, 5, 5)),
    "conv3d": ((8, 3), {}, (4, 4, 4, 4)),
    "conv_transpose1d": ((8, 3), {}, (4, 6)),
    "conv_transpose2d": ((8, 3), {"stride": 2}, (4, 4, 4)),
}
EPILOGUES = {"": "", "relu": "relu", "clip": "hardtanh", "round": "relu"}
OUT = 0.02
"""Scale of the quantizer in the epilogue `round`."""
SCALES = np.array([1.0, 1.0, 1e-12, 1e-6, 0.01, 0.01, 10.0, 1e-30], np.float32)
"""Scales of the weight's rows; the first two rows are zero."""
BIASES = np.array([0.3, -2e5, 2.0, 1e-7, 1e9, 0.0, -0.3, 3.0], np.float32)


def channel_axis(op: Operator) -> int:
    """Axis of the weight along which an int8 weight has a scale for each slice."""
    quantizable = op.trait(Quantizable)
    assert quantizable is not None and quantizable.channel_axis is not None
    return quantizable.channel_axis


def built(layer: str, axis: int | None, dtype: DType, dynamic: bool, epilogue: str, seed: int) -> Graph:
    arguments, options, shape = LAYERS[layer]
    random = np.random.default_rng(seed)
    model = Model()
    node = model.rewriter.add(Quantize(dtype, None, dynamic), [model.input("x", N, *shape)], name="q")
    op = OPERATORS[layer.split()[0]](*arguments, **options)
    storage = Int8(axis if axis is None else channel_axis(op))
    y = model.add(op, model.add(Dequantize(), *node.results), name="layer", storages={"weight": storage})
    if EPILOGUES[epilogue]:
        y = model.add(OPERATORS[EPILOGUES[epilogue]](), y)
    if epilogue == "round":
        y = model.add(Dequantize(), *model.rewriter.add(Quantize(DType.u8), [y], name="out").results)
    graph = model.done(y=y)
    assert graph.tensors is not None
    weight = graph.weights["layer.weight"]
    # The sum of two products of at most 255 · 64 fits into 16 bits: it does not saturate on CPUs without VNNI.
    integers = random.integers(-64, 65, weight.shape).astype(np.int8)
    np.moveaxis(integers, channel_axis(op), 0)[:2] = 0
    order = random.permutation(8)
    values = {"layer.weight": integers, "layer.bias": BIASES[order]}
    values["layer.weight_scale"] = SCALES[:8] if axis is not None else np.float32(random.choice(SCALES))
    if not dynamic:
        values |= {"q.scale": np.float32(random.choice([1.0, 1e-4, 37.0])), "q.zero_point": zero_point(dtype, seed)}
    if epilogue == "round":
        values |= {"out.scale": np.float32(OUT), "out.zero_point": np.uint8(0)}
    for path, array in values.items():
        graph.tensors.set(path, ArrayTensor(np.asarray(array)))
    return graph


def zero_point(dtype: DType, seed: int) -> Array:
    return np.asarray((0, 128)[seed % 2] if dtype is DType.u8 else (-128, 3)[seed % 2], np.dtype(dtype.torch))


def rounded(graph: Graph, x: Array) -> tuple[Array, float]:
    """Return the dequantized operand of the layer in float64, and its scale."""
    quantize = graph.layers()["q"].op
    assert isinstance(quantize, Quantize)
    if quantize.dynamic:
        least, most = min(x.min(), np.float32(0)), max(x.max(), np.float32(0))
        scale = (most - least) / np.float32(255)
        zero = np.rint(-least / scale)
    else:
        scale, zero = graph.weight_values("q.scale"), graph.weight_values("q.zero_point").astype(np.float32)
    low, high = (0, 255) if quantize.dtype is DType.u8 else (-128, 127)
    steps = np.clip(np.rint(x / scale) + zero, low, high) - zero
    return steps.astype(np.float64) * np.float64(scale), float(scale)


def expected(graph: Graph, layer: str, x: Array, epilogue: str) -> tuple[Array, Array]:
    """Return the results in float64, and their tolerances: a step, and the rounding of float32."""
    name, options = layer.split()[0], LAYERS[layer][1]
    function, end = getattr(torch.nn.functional, name), EPILOGUES[epilogue]
    numbers, scale = rounded(graph, x)
    weight, bias = (graph.weight_values(f"layer.{part}").astype(np.float64) for part in ("weight", "bias"))
    y, size = (
        function(*(torch.from_numpy(np.ascontiguousarray(change(part))) for part in (numbers, weight, bias)), **options)
        for change in (np.asarray, np.abs)
    )
    rows = np.moveaxis(weight, channel_axis(graph.layers()["layer"].op), 0).reshape(8, -1)
    assert graph.tensors is not None
    step = np.where(rows.any(1), scale * graph.tensors["layer.weight_scale"].numpy().astype(np.float64), 0)
    along = -1 if name == "linear" else 1
    shape = [8 if axis == along % y.dim() else 1 for axis in range(y.dim())]
    y = getattr(torch.nn.functional, end)(y) if end else y
    tolerance: Array = step.reshape(shape) + 2e-6 * size.numpy()
    if epilogue == "round":
        return y.clamp(max=255 * OUT).numpy(), tolerance + 0.51 * OUT
    return y.numpy(), tolerance


def on_grid(shape: tuple[int, ...], scale: float, seed: int) -> Array:
    """Draw multiples of a scale, from -64 to 191 times.

    The quantizer does not round them, so the runtimes cannot differ by their rounding of ties.
    """
    steps = np.random.default_rng(seed).integers(-64, 192, shape)
    steps.flat[:2] = -64, 191
    return (steps * scale).astype(np.float32)


KINDS = [(axis, dtype, dynamic) for axis in (0, None) for dtype, dynamic in (
    (DType.u8, False), (DType.i8, False), (DType.u8, True),
)]  # fmt: skip
CASES = [
    (layer, *kind, epilogue)
    for number, (layer, kind) in enumerate(itertools.product(LAYERS, KINDS))
    for epilogue in [list(EPILOGUES)[number % len(EPILOGUES)]]
]


@pytest.mark.parametrize(("layer", "axis", "dtype", "dynamic", "epilogue"), CASES)
def test_a_bias_is_exact_to_one_step(
    layer: str, axis: int | None, dtype: DType, dynamic: bool, epilogue: str, tmp_path: Path
) -> None:
    for seed in range(3):
        graph = built(layer, axis, dtype, dynamic, epilogue, seed)
        x = on_grid((2, *LAYERS[layer][2]), 1 / 64 if dynamic else float(graph.weight_values("q.scale")), seed)
        y, tolerance = expected(graph, layer, x, epilogue)
        model = to_model(graph)
        check(model)
        found = {runtime: results[0] for runtime, results in at_every_level(model, {"x": x})}
        with torch.no_grad():
            found["PyTorch"] = imported(graph, tmp_path).load()(torch.from_numpy(x)).numpy()
        for runtime, result in found.items():
            worst = (np.abs(result.astype(np.float64) - y) / (tolerance + 1e-30)).max()
            assert worst <= 1, f"{runtime}, seed {seed}: {worst:.2g} of what it may"
