"""Pass `lowrank`: factorize weights into two of low rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from archc.analysis.layers import Layer, layers_with_weights
from archc.declaration.base import Operator
from archc.declaration.traits import FACTORED_STORAGE
from archc.ir.graph import Graph, Node
from archc.passmanager import FLOAT_WEIGHTS, UNDIVIDED, Context, Pass, select
from archc.types.attributes import AttributeProblem, attribute
from archc.types.storage import Dense

from ._layers import work_at
from ._low_rank_factors import Svd, store_factors

DEFAULT_ENERGY = 0.85

ALIGNMENTS = (16, 8)
"""Alignments of ranks that are found by energy: a rank is rounded up to a multiple of 16.

If this rank gives no gain, the rank is rounded up to a multiple of 8 instead.  The alignments are the numbers of f32
lanes in vectors of 512 and 256 bits.  Measured on the second convolution of the digit classifier in int8 (ONNX Runtime,
one core, batch 32): rank 32 is 1.2 times as fast as the original layer, and rank 34 is 0.9 times as fast.
"""

# Cost of the second operator in multiply-adds, measured with ONNX Runtime on one core at batch 1 and 32.  Linear layers
# (the smallest 128 → 10, the largest 1024 → 1024) and convolutions became slower if the factors saved less than this
# cost.
OPERATOR_COST = 16_384
"""Cost of a kernel call."""
ELEMENT_COST = 100
"""Cost of each element of the tensor between the two operators, which is written once and read once."""


@dataclass(frozen=True)
class LowRank(Pass):
    """Factorize a layer's weight W (m × n) into two of low rank, W ≈ BA, and replace the layer by two.

    `linear` n → m becomes `linear` n → r without bias, named `fc1.a`, and `linear` r → m, named `fc1.b`.  A convolution
    becomes a convolution with the same kernel size and r output channels, then a convolution of kernel size 1 (Zhang et
    al. 2015, "Accelerating Very Deep Convolutional Networks", section 3.1, without its use of data).  A and B come from
    the truncated singular value decomposition of W, reshaped to a matrix with a row for each output channel.  BA is the
    best approximation of rank r in the Frobenius norm (Eckart, Young 1936).

    Recurrent layers (`lstm`, `gru`, `rnn`) and `parameter` are not split: each of their matrices is stored as two
    factors, `weight_ih_l0 = low_rank(16)`.  Such a layer has fewer parameters and bytes, but as many multiply-adds as
    before.

    The rank is given by one of `rank`, `ratio` and `energy`.  A rank found by energy is rounded up to a multiple of the
    vector width.  A layer is not factorized if r(m + n) ≥ mn, because the factors would be larger, or if other layers
    share its weight.  Without `rank`, a layer is also not factorized if the saved multiply-adds are fewer than the cost
    of one more operator.  Train for an epoch afterwards to recover accuracy.
    """

    name = "lowrank"
    preserves = "approximate"
    needs = (UNDIVIDED, FLOAT_WEIGHTS)
    example = 'lowrank(energy = 0.95, on = "fc*") -> quant(int8)'

    rank: int | None = attribute(None, doc="rank of every factorized layer")
    ratio: float | None = attribute(None, doc="rank as a fraction of the smaller side of the weight", keyword=True)
    energy: float | None = attribute(
        None,
        doc=f"least share of the squared singular values to keep; default: {DEFAULT_ENERGY}",
        keyword=True,
    )
    on: str | tuple[str, ...] | None = attribute(
        None, doc="layers to factorize: one glob or several; `kind:linear` selects by operator", keyword=True
    )
    keep: str | tuple[str, ...] | None = attribute(None, doc="layers to exclude", keyword=True)

    def check(self) -> None:
        given = [name for name in ("rank", "ratio", "energy") if getattr(self, name) is not None]
        if len(given) > 1:
            raise AttributeProblem(
                "conflicting-options",
                f"`lowrank` takes one of `rank`, `ratio` and `energy`, got `{given[0]}` and `{given[1]}`",
                given[1],
                f"remove `{given[1]}`",
            )
        if self.rank is not None and self.rank < 1:
            raise AttributeProblem("bad-option", f"`rank` of `lowrank` must be at least 1, got {self.rank}", "rank")
        for name in ("ratio", "energy"):
            share = getattr(self, name)
            if share is not None and not 0 < share <= 1:
                raise AttributeProblem(
                    "bad-option", f"`{name}` of `lowrank` must be above 0 and at most 1, got {share}", name
                )

    def run(self, graph: Graph, context: Context) -> None:
        wanted = select(graph, self.on, self.keep)
        work = work_at(graph, context.sizes)
        for layer in layers_with_weights(graph):
            reason = _obstacle(graph, layer)
            if reason is not None:
                context.inapplicable(layer.path, reason)
                continue
            if not wanted(layer.path):
                context.left(layer.path, "not selected")
                continue
            if layer.op.has(FACTORED_STORAGE):
                store_factors(graph, context, layer, self._ranks)
            else:
                self._factorize(graph, context, layer, work(layer.node))

    def _factorize(self, graph: Graph, context: Context, layer: Layer, work: int) -> None:
        """Factorize a layer if the factors are smaller and faster; `work` is the layer's multiply-adds."""
        (path,) = layer.weights.values()
        weight, values = graph.weights[path], graph.weight_values(path)
        matrix = values.reshape(len(values), -1)
        if not np.isfinite(matrix).all():
            context.left(layer.path, "its weight has NaN or infinite elements")
            return
        svd = Svd.of(matrix)
        m, n = matrix.shape
        reasons = {rank: self._obstacle_to_rank(work, rank, m, n) for rank in self._ranks(svd)}
        rank = next((rank for rank, reason in reasons.items() if reason is None), min(reasons))
        reason, before, after = reasons[rank], m * n, rank * (m + n)
        figures = {"rank": rank, "full_rank": min(m, n), "parameters_before": before, "parameters_after": after}
        shape = f"rank {rank} of {min(m, n)}"
        if reason is not None:
            context.left(layer.path, f"{shape} {reason}", **figures)
            return
        pair = layer.op.factors(rank)
        assert pair is not None, "`_obstacle` has checked that the operator has factors"
        down, up = svd.factors(rank)
        nodes = [_split(context, node, pair) for node in layer.nodes]
        for node, factor in zip(nodes[0], (down, up)):
            path = node.weights["weight"]
            shaped = factor.reshape(graph.weights[path].shape)
            context.rewriter.set_weight(path, shaped.astype(values.dtype))
        if "bias" in layer.node.weights:
            bias = graph.weight_values(layer.node.weights["bias"])
            context.rewriter.set_weight(nodes[0][1].weights["bias"], bias)
        for node, (_, second) in zip(layer.nodes, nodes):
            context.rewriter.replace(node, second.results)
        context.rewrote(
            layer.path,
            f"{shape}, {after / before:.0%} of the parameters, {svd.error(rank):.1%} error in the weight",
            **figures,
            energy=round(svd.kept(rank), 6),
            error=round(svd.error(rank), 6),
            bytes_before=weight.nbytes,
            bytes_after=after * weight.dtype.size,
        )

    def _ranks(self, svd: Svd) -> list[int]:
        """Candidate ranks, the best one first."""
        full = len(svd.values)
        if self.rank is not None:
            return [min(self.rank, full)]
        if self.ratio is not None:
            return [max(1, round(self.ratio * full))]
        enough = svd.rank_for(self.energy if self.energy is not None else DEFAULT_ENERGY)
        return [min(-(-enough // step) * step, full) for step in ALIGNMENTS]

    def _obstacle_to_rank(self, work: int, rank: int, m: int, n: int) -> str | None:
        """Reason why a rank gives no gain, or None."""
        before, after = m * n, rank * (m + n)
        if after >= before:
            return f"would not make it smaller: r(m + n) = {after:,} ≥ mn = {before:,}"
        if self.rank is not None:
            return None
        saved = work * (1 - after / before)
        needed = max(OPERATOR_COST, ELEMENT_COST * work * rank / before)
        if saved < needed:
            return f"would be slower: it saves {saved:,.0f} multiply-adds, but a second operator costs {needed:,.0f}"
        return None


def _split(context: Context, node: Node, pair: tuple[Operator, Operator]) -> tuple[Node, Node]:
    add = context.rewriter.add
    first = add(pair[0], node.operands, name=f"{node.name}.a", near=node)
    second = add(pair[1], first.results, name=f"{node.name}.b", near=node)
    return first, second


def _obstacle(graph: Graph, layer: Layer) -> str | None:
    """Reason why a layer cannot be factorized at any rank, or None."""
    if layer.op.has(FACTORED_STORAGE) and not layer.weights:
        return "it has no matrix to factorize"
    if layer.op.factors(1) is None and not layer.op.has(FACTORED_STORAGE):
        return f"`{layer.op.name}` with these attributes does not split into two"
    if layer.tied_to is not None:
        return f"it shares its weight with `{layer.tied_to}`"
    storages = (graph.weights[path].storage for path in layer.weights.values())
    storage = next((storage for storage in storages if storage != Dense()), None)
    if storage is not None:
        return f"its weight is stored as {storage}: run `lowrank` first"
    return None
