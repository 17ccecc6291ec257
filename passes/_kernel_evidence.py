"""Evidence of calibration data for the forms of convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from archc.compression.calibration.output_metric import OutputMetric
from archc.compression.factorization.kernel_chain import KernelChain
from archc.compression.factorization.kernel_factors import KernelMetric
from archc.compression.factorization.kernel_statistics import kernel_statistics
from archc.compression.factorization.low_rank import Array
from archc.ir.graph import Graph, Node
from archc.passmanager import Context

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class KernelEvidence:
    """Statistics of a convolution.

    Attributes:
        metrics: metric of the kernel of each group of channels.
        mean: mean of the operand, [channels].
        output: the output metric, if it is known.
    """

    metrics: Sequence[KernelMetric]
    mean: Array
    output: OutputMetric | None

    def with_product(self, graph: Graph, node: Node, chain: KernelChain) -> dict[str, Array]:
        """The weight that a chain computes, and the bias that absorbs the mean of its error, by path.

        A transposed convolution uses a part of its kernel for each result.
        """
        weight = graph.weight_values(node.weights["weight"])
        product = chain.product.reshape(weight.shape)
        found = {node.weights["weight"]: product.astype(weight.dtype)}
        if "bias" in node.weights:
            bias = graph.weight_values(node.weights["bias"])
            error = node.op.kernel_tensor(weight - product)
            steps = [node.op.kernel_steps(axis) for axis in range(error.ndim - 3)]
            used = np.prod([np.mean([step is not None for step in each]) for each in steps])
            sums = error.reshape(*error.shape[:3], -1).sum(3) @ self.mean.reshape(len(error), -1, 1)
            found[node.weights["bias"]] = (bias + used * sums.reshape(-1)).astype(bias.dtype)
        return found


def kernel_evidence(
    graph: Graph,
    context: Context,
    nodes: Sequence[Node],
    batches: Sequence[Mapping[str, torch.Tensor]],
    outputs: Mapping[Node, OutputMetric],
) -> dict[Node, KernelEvidence]:
    """Statistics of convolutions whose operands are finite."""
    if not nodes:
        return {}
    found = {}
    question = ("kernel statistics", len(batches))
    statistics = context.calibration.findings.of_nodes(
        graph, question, nodes, lambda: kernel_statistics(graph, nodes, batches)
    )
    for node, own in statistics.items():
        output = outputs.get(node)
        metrics = own.metrics(node, None if output is None else output.matrix)
        found[node] = KernelEvidence(metrics, own.mean.numpy(), output)
    return found
