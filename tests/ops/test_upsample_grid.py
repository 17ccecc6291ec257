"""`upsample` selects the elements that PyTorch selects, over a grid of sizes and factors."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn import functional

from archc.codegen.onnx import to_model
from archc.interpreter.evaluate import evaluate as run
from archc.language.printing.printer import print_graph
from archc.ops.resize import Upsample
from archc.ops.source_positions import Resampling, SourcePositions
from archc.types.dims import evaluate, symbol
from archc.types.tensor_type import DType, TensorType
from tests.codegen.torch_modules import graph_of
from tests.ops.operands import one_node

SIZES = range(1, 301)
TARGETS = range(1, 129)
FACTORS = [*(step / 10 for step in range(3, 31)), 1 / 3, 2 / 3, 0.29, 1.01, 1.05, 1.14, 2.05, 2.25, 3.7, 4.0, 5.3, 7.0]
LEVELS = [
    getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{name}")
    for name in ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED", "ENABLE_ALL")
]


def image(rank: int, width: int, dtype: torch.dtype = torch.float32, channels: int = 2) -> torch.Tensor:
    """An image of one row with different elements."""
    shape = (1, channels, *[1] * (rank - 3), width)
    return torch.arange(channels * width, dtype=torch.float64).reshape(shape).sin().to(dtype)


def upsample(rank: int, target: int | float, **options: Any) -> Upsample:
    """Return an operator that resizes only the last axis."""
    value = (*[1] * (rank - 3), target) if rank > 3 else target
    return Upsample(value, **options) if isinstance(target, int) else Upsample(scale_factor=value, **options)


def in_torch(op: Upsample, x: torch.Tensor) -> torch.Tensor:
    corners = None if op.mode == "nearest" else op.align_corners
    return functional.interpolate(x, op.size, op.scale_factor, op.mode, corners)


def check_symbolic(op: Upsample, images: Iterable[torch.Tensor], level: int, atol: float) -> None:
    """Check that one ONNX model of a symbolic width equals PyTorch at every width."""
    session = None
    for x in images:
        if isinstance(op.scale_factor, float | tuple) and op.resized(x.shape[-1], x.dim() - 3) == 0:
            continue
        if session is None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.graph_optimization_level = LEVELS[level % 4]
            model = to_model(one_node(op, [x], {}, [{x.dim() - 1: "W"}]))
            session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        found = torch.from_numpy(session.run(None, {"x0": x.numpy()})[0])
        torch.testing.assert_close(found, in_torch(op, x), rtol=0, atol=atol)


class Known:
    """The part of an `OnnxSpelling` that known sizes need: constants."""

    def constant(self, value: Any, dtype: DType | None = None) -> Any:
        return value


def known_indices(before: int, after: int, factor: float | None, special: bool) -> np.ndarray[Any, Any]:
    axis = Resampling(before, after, factor, corners=False, double=False)
    ((indices, _),) = SourcePositions(Known(), axis).nearest(special)  # type: ignore[arg-type]
    return np.asarray(indices.as_indices(), np.int64)


def check_known(sizes: Iterable[int], targets: Iterable[int | float]) -> None:
    """Check that the emitter computes the indices of the elements that PyTorch selects."""
    for before, target in product(sizes, targets):
        factor = None if isinstance(target, int) else target
        after = target if isinstance(target, int) else int(before * target)
        for rank in (3, 4) if after else ():
            taken = in_torch(
                upsample(rank, target), torch.arange(float(before)).reshape(1, 1, *[1] * (rank - 3), before)
            )
            found = known_indices(before, after, factor, special=rank == 4 and after + 1 <= 128)
            np.testing.assert_array_equal(found, taken.flatten().numpy(), f"{before} -> {target}")


def test_known_sizes() -> None:
    check_known((1, 7, 26, 35, 64, 90, 199, 300), [*range(1, 129, 9), *FACTORS])


@pytest.mark.slow
def test_known_sizes_over_the_grid() -> None:
    check_known(SIZES, [*TARGETS, *FACTORS])


@pytest.mark.parametrize("target", [64, 21, 0.6, 0.7, 1.05, 2.25, 2.6], ids=str)
def test_nearest(target: int | float) -> None:
    for level, rank in enumerate((3, 4, 5)):
        images = (image(rank, width) for width in (*range(1, 130, 2), 180, 181, 299, 300))
        check_symbolic(upsample(rank, target), images, level + int(target), 0)


MODES = [("linear", 3), ("bilinear", 4), ("trilinear", 5), ("bicubic", 4)]


@pytest.mark.parametrize(("mode", "rank"), MODES, ids=str)
@pytest.mark.parametrize("corners", [False, True])
def test_interpolation(mode: str, rank: int, corners: bool) -> None:
    for level, target in enumerate((64, 1, 0.7, 1.05, 2.6)):
        op = upsample(rank, target, mode=mode, align_corners=corners)
        check_symbolic(op, (image(rank, width) for width in (2, 3, 9, 64, 90, 127, 300)), level, 3e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "rank"), [("nearest", 3), ("nearest", 4), ("nearest", 5), *MODES], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_grid(mode: str, rank: int, dtype: torch.dtype) -> None:
    step = 1 if mode == "nearest" else 7
    for corners in (False,) if mode == "nearest" else (False, True):
        for level, target in enumerate([*TARGETS, *FACTORS]):
            op = upsample(rank, target, mode=mode, align_corners=corners)
            images = (image(rank, width, dtype) for width in SIZES[::step])
            check_symbolic(op, images, level, 0 if mode == "nearest" else 3e-6)


def test_the_type_has_the_size_that_pytorch_computes() -> None:
    x = TensorType(DType.f32, (1, 1, symbol("W")))
    for factor in FACTORS:
        size = Upsample(scale_factor=factor).infer([x]).results[0].shape[2]
        for width in SIZES:
            if int(width * factor):
                taken = functional.interpolate(torch.empty(1, 1, width), scale_factor=factor)
                assert evaluate(size, sizes={"W": width}) == taken.shape[2], (factor, width)


def test_channels_last_takes_the_same_elements() -> None:
    """PyTorch's kernel for large channels-last images selects other elements if one size is unchanged."""
    op = Upsample(scale_factor=(1.0, 1.25))
    x = image(4, 3, channels=8).expand(1, 8, 200, 3).contiguous()
    last = x.contiguous(memory_format=torch.channels_last)
    assert not torch.equal(in_torch(op, x), in_torch(op, last))
    graph = one_node(op, [x], {})
    assert torch.equal(run(graph, {"x0": last})["y0"], in_torch(op, x))


def test_infinite_elements_do_not_spread() -> None:
    x = torch.ones(1, 2, 1, 10)
    x[..., 4] = float("-inf")
    for target in (10, 13, 1.05):
        op = upsample(4, target, mode="bilinear")
        session = onnxruntime.InferenceSession(to_model(one_node(op, [x], {}, [{3: "W"}])).SerializeToString())
        found, expected = torch.from_numpy(session.run(None, {"x0": x.numpy()})[0]), in_torch(op, x)
        finite = expected.isfinite()
        torch.testing.assert_close(found[finite], expected[finite])


def test_a_rounded_size_can_be_written_and_is_printed() -> None:
    text = """
model m {
    input x: f32[N, 2, W]
    output y = x -> upsample(scale_factor = 2.6) -> reshape((N, 2 * int(W * 2.6)))
}
"""
    graph = graph_of(text)
    printed = print_graph(graph)
    assert str(graph.outputs["y"].type) == "f32[N, 2*int(W * 2.6)]"
    assert print_graph(graph_of(printed)) == printed
