"""Checks of an operator at other sizes of its symbolic axes: 0, 1 and more."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import onnxruntime
import torch

from archc.interpreter.evaluate import bind_sizes, evaluate
from archc.ir.graph import Graph
from archc.types.dims import evaluate as evaluate_dim
from tests.ops.comparison import close, to_tensors
from tests.ops.operands import Symbols

Tensor = torch.Tensor

PYTORCH_REFUSES = (
    "index .* out of (bounds|range)",  # the indices of the case exceed the shorter axis
    "Expected index .* to be no larger than self",
    "selected index k out of range",
    "Kernel size can't be greater than actual input size",
    "[Oo]utput size",  # windows that do not fit
    "optional 0 dim batch size",  # pooling and padding of empty axes
    "non-zero size for non-batch dimensions",
    "Only zero batch or zero channel inputs",
    "Expected reduction dim",  # maximum without elements
    "Expected sequence length to be larger than 0",
    "Cannot pack empty tensors",  # sequences with lengths and without steps
    "start .* length .* exceeds dimension size",  # the lengths of the case exceed a shorter sequence
)
"""Messages with which PyTorch rejects a size that has no valid result."""

ONNX_RUNTIME_REFUSES = (
    "Computed output shape is inconsistent",  # ConvTranspose with an empty spatial axis
    "pool_attributes",  # pooling over an empty axis
    "Size of X.shape\\[axis:\\] must be at least 1",  # LayerNormalization over an empty axis
)
"""Messages of ONNX Runtime without a kernel for a size of 0."""


def check_other_sizes(
    graph: Graph,
    inputs: Sequence[Tensor],
    symbols: Symbols,
    sessions: Mapping[str, onnxruntime.InferenceSession],
    rtol: float,
    atol: float,
) -> None:
    """Check that PyTorch and ONNX Runtime give equal results, with the inferred shapes.

    Args:
        graph: the graph of the operator, whose inputs have the symbols.
        inputs: the inputs at their original sizes.
        sessions: sessions of ONNX Runtime by name.
    """
    for size, tensors in _resized(inputs, symbols):
        feeds = {f"x{number}": tensor for number, tensor in enumerate(tensors)}
        sizes = bind_sizes(graph, {name: tuple(tensor.shape) for name, tensor in feeds.items()})
        types = [value.type for value in graph.outputs.values()]
        shapes = [tuple(evaluate_dim(dim, sizes=sizes) for dim in one.shape) for one in types]
        if any(extent < 0 for shape in shapes for extent in shape):
            continue  # the operator removes more elements than the axis has
        try:
            expected = tuple(evaluate(graph, feeds).values())
        except (RuntimeError, IndexError) as problem:
            assert _matches(PYTORCH_REFUSES, problem), f"PyTorch at {size}: {problem}"
            continue
        found = [(tuple(tensor.shape), str(tensor.dtype)) for tensor in expected]
        assert found == [(shape, f"torch.{one.dtype.torch}") for shape, one in zip(shapes, types)], f"PyTorch at {size}"
        arrays = {name: tensor.numpy() for name, tensor in feeds.items()}
        for runtime, session in sessions.items():
            try:
                results = session.run(None, arrays)
            except Exception as problem:
                assert size == 0 and _matches(ONNX_RUNTIME_REFUSES, problem), f"{runtime} at {size}: {problem}"
                continue
            close(to_tensors(results), expected, rtol, atol, f"{runtime} at {size}")


def _resized(inputs: Sequence[Tensor], symbols: Symbols) -> Iterator[tuple[int, list[Tensor]]]:
    """Yield the inputs at other sizes of each symbol; longer inputs repeat their elements."""
    drawn = {symbol: tensor.shape[axis] for tensor, axes in zip(inputs, symbols) for axis, symbol in axes.items()}
    for wanted, before in drawn.items():
        for size in sorted({0, 1, before + 3} - {before}):
            yield (
                size,
                [
                    _with_size(tensor, [axis for axis, symbol in axes.items() if symbol == wanted], size)
                    for tensor, axes in zip(inputs, symbols)
                ],
            )


def _with_size(tensor: Tensor, axes: Sequence[int], size: int) -> Tensor:
    for axis in axes:
        places = torch.arange(size) % tensor.shape[axis]
        tensor = tensor.index_select(axis, places)
    return tensor.clone()


def _matches(known: Sequence[str], problem: Exception) -> bool:
    return any(re.search(text, str(problem), re.DOTALL) for text in known)
