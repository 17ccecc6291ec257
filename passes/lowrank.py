"""Pass `lowrank`: factorize weights into two of low rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from archc.compression.factorization.kernel_chain import KernelChain, whitened_groups
from archc.compression.factorization.kernel_factors import WhitenedKernel
from archc.compression.factorization.low_rank import Array, Factors, Svd, rank_for
from archc.declaration.traits import SELECTS_ROWS
from archc.ir.graph import Graph
from archc.passmanager import FLOAT_WEIGHTS, UNDIVIDED, Context, Pass, select
from archc.types.attributes import AttributeProblem, attribute
from archc.types.storage import Dense

from ._kernel_ranks import KernelCosts, KernelRanks
from ._low_rank_factors import AnyFactors, Evidence, factors_of, put_factors, rank_of
from ._low_rank_matrices import Matrix, Rank, finite_matrices, matrices_of_layers
from ._model_budget import ModelBudget, model_budget
from ._plain_method import warn_without_data
from ._rank_allocation import Allocation, ranks_within

DEFAULT_ENERGY = 0.85

ALIGNMENTS = (16, 8)
"""Alignments of ranks that are found by energy: a rank is rounded up to a multiple of 16.

If this rank gives no gain, the rank is rounded up to a multiple of 8 instead.  The alignments are the numbers of f32
lanes in vectors of 512 and 256 bits.  Measured on the second convolution of the digit classifier in int8 (ONNX Runtime,
one core, batch 32): rank 32 is 1.2 times as fast as the original layer, and rank 34 is 0.9 times as fast.
"""

AMOUNTS = ("rank", "ratio", "energy", "params", "macs", "bytes")
"""Options that determine the ranks."""


@dataclass(frozen=True)
class LowRank(Pass):
    """Factorize a layer's weight W (m × n) into two of low rank, W ≈ BA, and replace the layer by two.

    `linear` n → m becomes `linear` n → r without bias, named `fc1.a`, and `linear` r → m, named `fc1.b`.  A convolution
    becomes a convolution with the same kernel size and r output channels, then a convolution of kernel size 1 (Zhang et
    al. 2015, "Accelerating Very Deep Convolutional Networks", section 3.1).  A and B come from a truncated singular
    value decomposition of W, reshaped to a matrix with a row for each output channel (Eckart, Young 1936).

    `form` asks for another form of convolutions, also grouped and transposed ones.  In "pointwise", the convolution of
    kernel size 1 is the first one.  In "tucker", there is one before and one after the kernel (Tucker-2).  In
    "spatial", the first convolution has the kernel's first axis, and the second one the other axes.  Under a budget,
    each convolution gets the form with which the model loses least.  Each group of channels has its own factors of the
    same rank.

    Under a budget of parameters or bytes, `embedding` v → d becomes `embedding` v → r and `linear` r → d without bias.
    With calibration data, a row counts by its frequency in the data.

    Recurrent layers (`lstm`, `gru`, `rnn`) and `parameter` are not split: each of their matrices is stored as two
    factors, `weight_ih_l0 = low_rank(16)`.  Such a layer has fewer parameters and bytes, but as many multiply-adds as
    before.

    The ranks are given by one of six options.  `rank`, `ratio` and `energy` hold for each layer; a rank found by energy
    is rounded up to a multiple of the vector width.  `params`, `macs` and `bytes` say what remains of the whole model,
    as a share or as a number: `params = 0.6`, `bytes = 30MB`.  The ranks, multiples of 8, then follow from the budget:
    the sum of the expected errors of the outputs is minimal, and a layer stays dense where this is better.

    With calibration data, the factors are those with the smallest expected error of the outputs at their rank.  For the
    second moments H of the layer's operand and the effect G of errors in its result on the outputs, they are the best
    approximation of W in the norm of tr(G ΔW H ΔWᵀ) (with H alone: Yuan et al. 2023, "ASVD"; Wang et al. 2024,
    "SVD-LLM").  Layers are factorized in the order of the data flow, on the operands that the factorized layers before
    give, and the biases absorb the mean error.  `energy` still counts singular values of W itself.  Without data, or
    with `method = "svd"`, the factors come from W alone, and a budget minimizes the relative errors of the weights.

    A layer is not factorized if r(m + n) ≥ mn, because the factors would be larger, or if other layers share its
    weight.  Without `rank`, a layer is also not factorized if the saved multiply-adds are fewer than the cost of one
    more operator.  Train for an epoch afterwards to recover accuracy.
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
    params: float | None = attribute(
        None, doc="parameters of the model that remain: a share up to 1, or a number", keyword=True
    )
    macs: float | None = attribute(
        None, doc="multiply-adds of the model that remain: a share up to 1, or a number", keyword=True
    )
    bytes: float | None = attribute(
        None,
        doc="bytes of the emitted program that remain: a share up to 1, or a number such as `30MB`",
        keyword=True,
    )
    method: Literal["svd"] | None = attribute(
        None,
        doc='"svd" factorizes the weights alone; default: by the calibration data, if there are any',
        keyword=True,
    )
    form: Literal["channel", "pointwise", "spatial", "tucker"] | None = attribute(
        None,
        doc='form of convolutions; default: under a budget the best one, else "channel"',
        keyword=True,
    )
    on: str | tuple[str, ...] | None = attribute(
        None, doc="layers to factorize: one glob or several; `kind:linear` selects by operator", keyword=True
    )
    keep: str | tuple[str, ...] | None = attribute(None, doc="layers to exclude", keyword=True)

    def check(self) -> None:
        given = [name for name in AMOUNTS if getattr(self, name) is not None]
        if len(given) > 1:
            names = ", ".join(f"`{name}`" for name in AMOUNTS[:-1])
            raise AttributeProblem(
                "conflicting-options",
                f"`lowrank` takes one of {names} and `{AMOUNTS[-1]}`, got `{given[0]}` and `{given[1]}`",
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
        self._budget()

    def _budget(self) -> ModelBudget | None:
        return model_budget("lowrank", self.params, self.macs, self.bytes)

    def run(self, graph: Graph, context: Context) -> None:
        order = {path: number for number, path in enumerate(graph.layers())}
        matrices, budget = self._matrices(graph, context), self._budget()
        by_data, plain = self.method is None and context.calibration.real, dict[Matrix, AnyFactors]()
        if budget is not None:
            allocation = ranks_within(graph, context, matrices, budget, by_data, self.form)
        else:
            plain = self._plain_factors(graph, context, matrices)
            ranks = {matrix: rank_of(factors) for matrix, factors in plain.items()}
            evidence = Evidence.of_ranks(graph, context, ranks) if by_data and plain else None
            allocation = Allocation(ranks, evidence=evidence)
        if allocation.ranks and self.method is None:
            effect = f"`{self}` factorizes weights without regard to the operands, since there are no calibration data"
            warn_without_data(context, effect, "a smaller error of the outputs", 'method = "svd"')
        outcome = factors_of(graph, context, allocation.ranks, plain, allocation.evidence)
        for matrix, factors in outcome.factors.items():
            loss = allocation.losses.get(matrix, factors.loss)
            _remark(context, matrix, allocation.ranks[matrix], outcome.errors[matrix], loss)
            put_factors(graph, context.rewriter, matrix, factors)
        context.remarks.sort(key=lambda remark: order.get(remark.layer, -1))

    def _matrices(self, graph: Graph, context: Context) -> list[Matrix]:
        """The weights of selected layers, with a remark on the other layers."""
        wanted = select(graph, self.on, self.keep)
        found: list[Matrix] = []
        for layer, matrices in matrices_of_layers(graph, context.sizes).items():
            if isinstance(matrices, str):
                encoded = any(graph.weights[path].storage != Dense() for path in layer.weights.values())
                (context.left if encoded else context.inapplicable)(layer.path, matrices)
            elif self.params is None and self.bytes is None and layer.op.has(SELECTS_ROWS):
                why = "the factors of a table need more multiply-adds: give a budget, `params` or `bytes`"
                context.inapplicable(layer.path, why)
            elif not wanted(layer.path):
                context.left(layer.path, "not selected")
            else:
                found += matrices
        return finite_matrices(graph, context, found)

    def _plain_factors(self, graph: Graph, context: Context, matrices: list[Matrix]) -> dict[Matrix, AnyFactors]:
        """Factors by the weights alone, of the rank that the options give, with a remark where there are none."""
        found: dict[Matrix, AnyFactors] = {}
        for matrix in matrices:
            if matrix.kernels and (self.form not in (None, "channel") or not matrix.paired):
                self._plain_chain(graph, context, matrix, found)
                continue
            values = matrix.values(graph)
            svd = Svd.of(values)
            ranks = self._ranks(svd.values) if matrix.splits else [min(self._ranks(svd.values))]
            reasons = {rank: self._obstacle(matrix, rank) for rank in ranks}
            rank = next((rank for rank, reason in reasons.items() if reason is None), min(reasons))
            if reasons[rank] is None:
                found[matrix] = Factors.of(svd, rank, values.dtype)
            else:
                title = "" if len(matrix.layer.weights) == 1 and matrix.splits else f"{matrix.title}: "
                reason = f"{title}rank {rank} of {matrix.full_rank} {reasons[rank]}"
                context.left(matrix.layer.path, reason, **_figures(matrix, rank))
        return found

    def _plain_chain(self, graph: Graph, context: Context, matrix: Matrix, found: dict[Matrix, AnyFactors]) -> None:
        """Add the convolutions of a form to the factors."""
        costs = matrix.kernels.get(self.form or "channel")
        if costs is None:
            context.left(matrix.layer.path, f"its kernel has no form `{self.form}`")
            return
        groups = whitened_groups(matrix.layer.op, graph.weight_values(matrix.path))
        candidates = self._kernel_ranks(groups, costs)
        reasons = {ranks: self._obstacle(matrix, ranks) for ranks in candidates}
        chosen = next((ranks for ranks, reason in reasons.items() if reason is None), candidates[-1])
        if reasons[chosen] is None:
            found[matrix] = KernelChain.of(matrix.layer.op, groups, chosen.form, chosen.ranks)
        else:
            reason = f"{matrix.title_of(chosen)} {reasons[chosen]}"
            context.left(matrix.layer.path, reason, **_figures(matrix, chosen))

    def _kernel_ranks(self, groups: Sequence[WhitenedKernel], costs: KernelCosts) -> list[KernelRanks]:
        """Candidate ranks of a form, the best ones first; those of all groups are equal."""
        spectra = [np.sqrt(sum(each)) for each in zip(*(group.spectra(costs.form) for group in groups), strict=True)]
        each_link = [self._ranks(values[:full]) for values, full in zip(spectra, costs.full, strict=True)]
        return [KernelRanks(costs.form, ranks) for ranks in zip(*each_link, strict=True)]

    def _ranks(self, values: Array) -> list[int]:
        """Candidate ranks for singular values, the best one first."""
        full = len(values)
        if self.rank is not None:
            return [min(self.rank, full)]
        if self.ratio is not None:
            return [max(1, round(self.ratio * full))]
        enough = rank_for(values, self.energy if self.energy is not None else DEFAULT_ENERGY)
        return [min(-(-enough // step) * step, full) for step in ALIGNMENTS]

    def _obstacle(self, matrix: Matrix, rank: Rank) -> str | None:
        """Reason why a rank gives no gain, or None; a given rank may make a layer slower."""
        return matrix.obstacle_to_size(rank) or (None if self.rank is not None else matrix.obstacle_to_speed(rank))


def _remark(context: Context, matrix: Matrix, rank: Rank, error: float, loss: float | None) -> None:
    """Add a remark on factors.

    Args:
        error: relative error of the weight.
        loss: expected squared error of the outputs, if it is known.
    """
    after, size = matrix.parameters_at(rank), matrix.element_size
    figures: dict[str, float | int | str] = {
        **_figures(matrix, rank),
        "energy": round(1 - error**2, 6),
        "error": round(error, 6),
        "bytes_before": matrix.parameters * size,
        "bytes_after": after * size,
    }
    if loss is not None:
        figures["predicted_error"] = loss
    stored = "" if matrix.splits else f"{matrix.title} stored as low_rank({rank}): "
    effect = "" if loss is None else f"; expected squared error of the outputs: {loss:.1e}"
    context.rewrote(
        matrix.layer.path,
        f"{stored}{matrix.title_of(rank)}, {after / matrix.parameters:.0%} of the parameters,"
        f" {error:.1%} error in the weight{effect}",
        **figures,
    )


def _figures(matrix: Matrix, rank: Rank) -> dict[str, float | int | str]:
    figures: dict[str, float | int | str] = (
        {"rank": rank, "full_rank": matrix.full_rank} if isinstance(rank, int) else {}
    )
    if isinstance(rank, KernelRanks):
        figures = {"form": rank.form.name, "ranks": ", ".join(map(str, rank.ranks))}
    return {
        **figures,
        "parameters_before": matrix.parameters,
        "parameters_after": matrix.parameters_at(rank),
    }
