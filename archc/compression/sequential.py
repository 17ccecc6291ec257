"""Quantization of weights layer by layer, each layer on the outputs of the quantized layers before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from typing import TYPE_CHECKING

from archc.compression.gptq import quantize_matrix
from archc.compression.grids import Grid, find_grid
from archc.compression.lockstep import Lockstep
from archc.compression.moments import Moments
from archc.compression.output_metric import OutputMetric
from archc.compression.shrinkage import independent_parts
from archc.declaration.traits import ADDS, INFERENCE_IDENTITY
from archc.frozen_dataclass import frozen_by_identity
from archc.ir.graph import Graph, Node
from archc.types.storage import Integers

if TYPE_CHECKING:
    import numpy as np
    import torch

ROWS_PER_COLUMN = 16
"""Number of rows for each column of a weight, with `LEAST_ROWS` more, above which rows are left out.

The second moments of a matrix with k columns need a few times k rows; a convolution has a row for each position.
"""
LEAST_ROWS = 16_384
CHUNK = 8 << 20
"""Most elements of rows in memory at a time."""
SIGNIFICANCE = 2
"""Number of standard errors up to which biases do not absorb the mean error."""


@frozen_by_identity
class QuantizedMatrix:
    """A quantized weight.

    Attributes:
        stored: the stored tensors by path.
        bias: the refitted bias; None if the layer has none.
        rows: number of rows of calibration data.
        fitted: the weight before its rounding, if it was refitted; else None.
    """

    stored: Mapping[str, np.ndarray]
    bias: np.ndarray | None
    rows: int
    fitted: np.ndarray | None = None


Store = Callable[[Node, QuantizedMatrix], None]
"""Function that writes a quantized weight into the graph."""


def quantize_sequentially(
    graph: Graph,
    steps: Lockstep,
    formats: Mapping[Node, Integers],
    metrics: Mapping[Node, OutputMetric],
    store: Store,
    refit: bool = True,
) -> None:
    """Quantize the weights of layers by GPTQ, in the order of the data flow.

    For a product of the operand with the weight, the original weight is first refitted to the outputs of the original
    model on the operand of the compressed one, if `refit` is True; after GPTQ, the bias absorbs the mean of the
    remaining error.  For a layer that ends a residual branch, the target also contains the error of the branch's other
    operand.  For a layer that selects rows of its weight, such as `embedding`, the metric of its result takes the place
    of the Hessian.

    Args:
        formats: the storage format of the weight, for each node; each layer has one node.
        metrics: the output metrics of nodes; rows without an effect on the outputs are left out.
        store: called once for each node.
        refit: False to quantize the original weights.
    """
    left = dict(formats)
    for node in steps.nodes():
        storage = left.pop(node, None)
        if storage is None:
            continue
        path = node.weights["weight"]
        metric = metrics.get(node)
        sample = node.op.weight_rows(next(steps.operands(node))[1][:1])
        if sample is None:
            found = _quantize_rows(storage, path, graph.weight_values(path), None if metric is None else metric.matrix)
        else:
            found = _quantize_product(graph, steps, node, storage, sample, metric, refit)
        store(node, found)
        steps.changed(*node.weights.values())
        if not left:
            break  # the rest of the model need not be evaluated


def _quantize_product(
    graph: Graph,
    steps: Lockstep,
    node: Node,
    storage: Integers,
    sample: torch.Tensor,
    metric: OutputMetric | None,
    refit: bool,
) -> QuantizedMatrix:
    import torch

    path, bias_path = node.weights["weight"], node.weights.get("bias")
    weight = _tensor(graph, path)
    rows = torch.from_numpy(storage.rows(weight.numpy()).copy())
    groups, _, columns = sample.shape
    channels = len(rows) // groups
    parts = torch.split(rows, channels)
    moments = [Moments(columns, channels, bias_path is not None, part if refit else None) for part in parts]
    for x, y, sizes in _rows_and_targets(graph, steps, node, metric):
        for group, each in enumerate(moments):
            each.add(x[group], y[:, group * channels : (group + 1) * channels], sizes)
    if not all(each.finite for each in moments):
        return _quantize_rows(storage, path, weight.numpy(), None)
    fitted = torch.cat([each.refitted() for each in moments]) if refit else rows
    importance = torch.cat([each.hessian.diagonal().expand(channels, -1) for each in moments])
    grid = find_grid(storage, fitted, importance)
    q = torch.cat(
        [
            quantize_matrix(part, each.hessian, grid.of_channels(number * channels, channels))
            for number, (each, part) in enumerate(zip(moments, torch.split(fitted, channels)))
        ]
    )
    values = torch.split(grid.values(q), channels)
    bias = None
    if bias_path is not None:
        before = torch.split(_tensor(graph, bias_path), channels)
        biases = [_refitted_bias(*each) for each in zip(moments, before, parts, values)]
        bias = torch.cat(biases).to(weight.dtype).numpy()
    before_rounding = storage.from_rows(fitted.numpy(), tuple(weight.shape)) if refit else None
    return QuantizedMatrix(_stored(storage, path, q, grid, weight), bias, moments[0].count, before_rounding)


def _refitted_bias(moments: Moments, bias: torch.Tensor, rows: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Compute the bias that absorbs the mean d of the remaining error, as far as the rows determine d.

    For n rows, the squared standard error of d is s² = diag(ΔW H ΔWᵀ) / n.  If some rows are much larger than others, s
    is large as well, and d would be a large error in the result of the small rows.  So d is multiplied by
    max(0, 1 - `SIGNIFICANCE`² Σs² / Σd²), with sums over all channels: of many channels, some have a large d by chance.
    (James and Stein 1961, "Estimation with quadratic loss".)
    """
    if not moments.variance_known:
        return bias
    mean, hessian = moments.mean, moments.hessian
    shift = moments.target_mean.to(mean.dtype) - values.to(mean.dtype) @ mean - bias
    error = (values - rows).to(hessian.dtype)
    variance = (error @ hessian * error).sum(dtype=mean.dtype) / max(moments.count, 1)
    known = 1 - SIGNIFICANCE**2 * variance / shift.square().sum()  # NaN without a shift and without an error
    return bias + known.nan_to_num(0.0).clamp(min=0) * shift


def _quantize_rows(storage: Integers, path: str, values: np.ndarray, metric: torch.Tensor | None) -> QuantizedMatrix:
    """Quantize the rows of a weight, a part of them at a time: such weights are the largest of a model."""
    import numpy as np
    import torch

    if metric is None:
        return QuantizedMatrix(storage.encode(path, values), None, 0)
    hessian = metric if metric.dim() == 2 else metric.diag()
    rows = storage.rows(values)
    count = max(1, CHUNK // max(1, rows.shape[1]))
    parts = []
    for start in range(0, len(rows), count):
        chunk = torch.from_numpy(rows[start : start + count].copy())
        grid = find_grid(storage, chunk, hessian.diagonal())
        q = quantize_matrix(chunk, hessian, grid)
        shape = (len(chunk), *values.shape[1:])
        parts.append(storage.pack(path, q.numpy(), grid.scale.numpy(), grid.zero_point.numpy(), shape))
    return QuantizedMatrix({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, None, 0)


def _stored(
    storage: Integers, path: str, q: torch.Tensor, grid: Grid, weight: torch.Tensor
) -> Mapping[str, np.ndarray]:
    return storage.pack(path, q.numpy(), grid.scale.numpy(), grid.zero_point.numpy(), tuple(weight.shape))


def _rows_and_targets(
    graph: Graph, steps: Lockstep, node: Node, metric: OutputMetric | None
) -> Iterator[tuple[torch.Tensor, torch.Tensor, list[int]]]:
    """Rows [groups, rows, columns] of the compressed operand, and their targets [rows, groups * channels].

    The list has the number of rows of each independent sample (`independent_parts`).
    """
    import torch

    samples, row = sum(steps.samples), node.op.weight_rows(next(steps.operands(node))[1][:1])
    assert row is not None
    # Rows are left out evenly, and the operand is divided, so that a convolution needs no more memory than a layer.
    stride = max(1, samples * row.shape[1] // (ROWS_PER_COLUMN * row.shape[2] + LEAST_ROWS))
    # If the rows of a sample are more than the columns, `Moments` computes a product of the weight's size for each.
    products = graph.weights[node.weights["weight"]].size if row.shape[1] > row.shape[2] else 0
    count = max(1, CHUNK // max(1, row.numel(), products))
    errors = _residual_errors(graph, steps, node)
    relevant = iter(metric.relevant) if metric is not None else repeat(None)
    batches = zip(steps.operands(node), steps.results(node), errors, relevant, steps.samples)
    for (_, operand), result, error, used, own_samples in batches:
        target = result if error is None else result + error
        # The first axis can have several elements for each sample, such as windows of an image.
        length = row.shape[1] * max(1, len(operand) // own_samples)
        for start in range(0, len(operand), count):
            x = node.op.weight_rows(operand[start : start + count])
            assert x is not None
            y = node.op.result_rows(target[start : start + count])
            of_sample = torch.arange(start * row.shape[1], start * row.shape[1] + len(y)) // length
            if used is not None:
                own, used = used[: len(y)], used[len(y) :]
                x, y, of_sample = x[:, own], y[own], of_sample[own]
            sizes = torch.bincount(of_sample[::stride] - of_sample[0]).tolist() if len(of_sample) else []
            yield x[:, ::stride], y[::stride], independent_parts(sizes, samples)


def _residual_errors(graph: Graph, steps: Lockstep, node: Node) -> Iterator[torch.Tensor | None]:
    """Yield the error of the value to which the result of a node is added, for each batch; else None."""
    value = node.results[0]
    consumer = graph.only_consumer(value)
    while consumer is not None and consumer.op.has(INFERENCE_IDENTITY):
        value = consumer.results[0]
        consumer = graph.only_consumer(value)
    if consumer is not None and consumer.op.has(ADDS) and len(consumer.operands) == 2:
        other = consumer.operands[1 - consumer.operands.index(value)]
        if other.type == value.type and other is not value:
            yield from steps.error(other)
            return
    while True:
        yield None


def _tensor(graph: Graph, path: str) -> torch.Tensor:
    import torch

    return torch.from_numpy(graph.weight_values(path).copy())
