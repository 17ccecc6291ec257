"""Compression of weights layer by layer, each layer on the outputs of the compressed layers before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Generic, TypeVar

from archc.compression.calibration.lockstep import Lockstep
from archc.compression.calibration.moments import Moments
from archc.compression.calibration.output_metric import OutputMetric
from archc.compression.calibration.shrinkage import independent_parts
from archc.declaration.traits import ADDS, INFERENCE_IDENTITY
from archc.frozen_dataclass import frozen_by_identity
from archc.ir.graph import Graph, Node

if TYPE_CHECKING:
    import numpy as np
    import torch

Result = TypeVar("Result")

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
class Product:
    """A product of a weight with rows that are computed from the operand of a layer.

    Attributes:
        weight: [channels, ...]; flattened, it is W of `Operator.weight_rows`.
        rows: see `Operator.weight_rows`.
    """

    weight: np.ndarray
    rows: Callable[[torch.Tensor], torch.Tensor | None]


@frozen_by_identity
class LayerProblem:
    """The approximation of one weight, on the operands that its layer gets in the compressed model.

    Attributes:
        path: path of the weight.
        weight: the weight of the original model.
        target: the matrix to approximate, [channels, columns], channels along the first axis of the weight: the
            original weight, refitted to the operands if this was asked for.  None without moments.
        moments: moments of the operands, for each group of channels.  Empty for a layer that selects rows of its
            weight, and for operands that are not finite.
        metric: metric of the layer's result, if it is known.
    """

    path: str
    weight: np.ndarray
    target: torch.Tensor | None
    moments: Sequence[Moments]
    metric: OutputMetric | None

    @property
    def parts(self) -> Sequence[torch.Tensor]:
        """The target for each group of channels."""
        import torch

        assert self.target is not None, "there are moments"
        return torch.split(self.target, len(self.target) // len(self.moments))


@frozen_by_identity
class Approximation(Generic[Result]):
    """An approximation of a weight.

    Attributes:
        result: what a caller of `compress_sequentially` needs to change the graph.
        values: the approximate matrix, [channels, columns]; None if it is not needed for the bias.
    """

    result: Result
    values: torch.Tensor | None


@frozen_by_identity
class CompressedMatrix(Generic[Result]):
    """A compressed weight.

    Attributes:
        result: the result of the solver.
        bias: the refitted bias; None if the layer has none.
        rows: number of rows of calibration data.
        fitted: the weight before its compression, if it was refitted; else None.
    """

    result: Result
    bias: np.ndarray | None
    rows: int
    fitted: np.ndarray | None = None


Solver = Callable[[LayerProblem], Approximation[Result]]
"""Function that approximates a weight."""
Store = Callable[[Node, CompressedMatrix[Result]], None]
"""Function that writes a compressed weight into the graph."""


def compress_sequentially(
    graph: Graph,
    steps: Lockstep,
    solvers: Mapping[Node, Solver[Result]],
    metrics: Mapping[Node, OutputMetric],
    store: Store[Result],
    refit: bool = True,
    products: Mapping[Node, Product] | None = None,
) -> None:
    """Compress the weights of layers in the order of the data flow.

    For a product of the operand with the weight, the original weight is first refitted to the outputs of the original
    model on the operand of the compressed one, if `refit` is True; after the compression, the bias absorbs the mean of
    the remaining error.  For a layer that ends a residual branch, the target also contains the error of the branch's
    other operand.

    Args:
        solvers: compresses the weight, for each node; each layer has one node.
        metrics: the output metrics of nodes; rows without an effect on the outputs are left out.
        store: called once for each node.
        refit: False to compress the original weights.
        products: the products to refit, for nodes whose weight becomes a product of several; for other nodes, it is
            that of the operand with the weight.
    """
    left, products = dict(solvers), products or {}
    for node in steps.nodes():
        solver = left.pop(node, None)
        if solver is None:
            continue
        product = products.get(node) or Product(graph.weight_values(node.weights["weight"]), node.op.weight_rows)
        store(node, _compressed(graph, steps, node, product, solver, metrics.get(node), refit))
        steps.changed(*node.weights.values())
        if not left:
            break  # the rest of the model need not be evaluated


def _compressed(
    graph: Graph,
    steps: Lockstep,
    node: Node,
    product: Product,
    solver: Solver[Result],
    metric: OutputMetric | None,
    refit: bool,
) -> CompressedMatrix[Result]:
    import torch

    path, bias_path = node.weights["weight"], node.weights.get("bias")
    weight = product.weight
    sample = product.rows(next(steps.operands(node))[1][:1])
    if sample is None:
        return CompressedMatrix(solver(LayerProblem(path, weight, None, (), metric)).result, None, 0)
    rows = _tensor(weight).flatten(1)
    groups, _, columns = sample.shape
    channels = len(rows) // groups
    parts = torch.split(rows, channels)
    moments = [Moments(columns, channels, bias_path is not None, part if refit else None) for part in parts]
    for x, y, sizes in _rows_and_targets(graph, steps, node, product, metric):
        for group, each in enumerate(moments):
            each.add(x[group], y[:, group * channels : (group + 1) * channels], sizes)
    if not all(each.finite for each in moments):
        return CompressedMatrix(solver(LayerProblem(path, weight, None, (), None)).result, None, 0)
    fitted = torch.cat([each.refitted() for each in moments]) if refit else rows
    found = solver(LayerProblem(path, weight, fitted, moments, metric))
    bias = None
    if bias_path is not None and found.values is not None:
        before = torch.split(_tensor(graph.weight_values(bias_path)), channels)
        biases = [_refitted_bias(*each) for each in zip(moments, before, parts, torch.split(found.values, channels))]
        bias = torch.cat(biases).to(rows.dtype).numpy()
    before_rounding = fitted.numpy().reshape(weight.shape) if refit else None
    return CompressedMatrix(found.result, bias, moments[0].count, before_rounding)


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


def _rows_and_targets(
    graph: Graph, steps: Lockstep, node: Node, product: Product, metric: OutputMetric | None
) -> Iterator[tuple[torch.Tensor, torch.Tensor, list[int]]]:
    """Rows [groups, rows, columns] of the compressed operand, and their targets [rows, groups * channels].

    The list has the number of rows of each independent sample (`independent_parts`).
    """
    import torch

    samples, row = sum(steps.samples), product.rows(next(steps.operands(node))[1][:1])
    assert row is not None
    # Rows are left out evenly, and the operand is divided, so that a convolution needs no more memory than a layer.
    stride = max(1, samples * row.shape[1] // (ROWS_PER_COLUMN * row.shape[2] + LEAST_ROWS))
    # If the rows of a sample are more than the columns, `Moments` computes a product of the weight's size for each.
    products = product.weight.size if row.shape[1] > row.shape[2] else 0
    count = max(1, CHUNK // max(1, row.numel(), products))
    errors = _residual_errors(graph, steps, node)
    relevant = iter(metric.relevant) if metric is not None else repeat(None)
    batches = zip(steps.operands(node), steps.results(node), errors, relevant, steps.samples)
    for (_, operand), result, error, used, own_samples in batches:
        target = result if error is None else result + error
        # The first axis can have several elements for each sample, such as windows of an image.
        length = row.shape[1] * max(1, len(operand) // own_samples)
        for start in range(0, len(operand), count):
            x = product.rows(operand[start : start + count])
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


def _tensor(array: np.ndarray) -> torch.Tensor:
    import torch

    return torch.from_numpy(array.copy())
