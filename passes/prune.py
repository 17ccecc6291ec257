"""Pass `prune`: set small weights to zero, remove whole channels, or replace whole layers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from archc.compression.pruning.sparsity import KeptPattern
from archc.ir.graph import Graph
from archc.passmanager import FLOAT_WEIGHTS, UNDIVIDED, Context, Pass, select
from archc.types.attributes import AttributeProblem, attribute

from ._channel_budget import prune_channels
from ._depth_pruning import prune_depth
from ._element_pruning import ElementPruning, mask_elements
from ._model_budget import ModelBudget, model_budget
from ._plain_method import warn_without_data
from ._sparse_weights import store_sparse


@dataclass(frozen=True)
class Prune(Pass):
    """Set single weights to zero permanently, remove whole channels, or replace whole layers.

    By default, single weights are masked.  In the emitted text, the layer has `weight = masked`.  A mask is stored with
    the weight, so masked elements stay zero in further training.  Weights that are contracted with data are pruned;
    biases and norms are not.  The share `sparsity` includes weights that were masked by an earlier `prune`.  Masks do
    not make PyTorch or ONNX Runtime faster, but the files compress better.

    With calibration data, elements are masked by SparseGPT: layer by layer, on the outputs of the pruned layers before,
    the elements that stay compensate for each masked element, and the bias absorbs the mean of the remaining error
    (Frantar and Alistarh 2023, "SparseGPT").  A channel of a result counts by its effect on the outputs, which is
    measured by their gradients, without labels.  With `scope = "global"`, a layer loses more or less than the share
    `sparsity`, by the effect of its elements on the outputs; with `"layer"`, all layers lose this share.

    `method = "wanda"` masks the elements of each row with the smallest |w|·‖x‖, for the operand x, and refits only the
    bias (Sun et al. 2023, "A Simple and Effective Pruning Approach for Large Language Models"): it is faster, and less
    accurate.  Both methods apply to linear layers and convolutions with one use outside scans; other weights, also
    those of transposed convolutions, are pruned by magnitude.

    Without data, or with `method = "magnitude"`, the weights with the smallest absolute values are masked (Han et al.
    2015, "Learning both Weights and Connections for Efficient Neural Networks").  With `scope = "global"`, one
    threshold holds for all selected layers; with `"layer"`, each layer loses the same share.  The pass warns if a
    global threshold removes more than (1 + sparsity) / 2 of the weights of a layer.  `scheme = "magnitude"` is short
    for `method = "magnitude"`.

    `pattern = "2:4"`, in place of `sparsity`, keeps 2 of each 4 consecutive elements of a row of the weight as a matrix
    [result channels, inputs], by any of these methods.  Layers whose weight has its inputs along the first axis, such
    as transposed convolutions, keep their weights.

    With `storage = "sparse"`, a pruned weight is stored as its remaining elements and a mask with one bit for each
    element, 53 % of the bytes at a sparsity of one half, without loss.  Programs decode it once.  Such weights are not
    trained, and later passes leave them as they are.  ONNX has no operator for bitmasks, so ONNX programs store the
    zeros.

    `scheme = "channel"` removes whole channels, so that layers become narrower, smaller and faster.  Channels that can
    only be removed together form a group.  Examples are channel k of both operands of an addition, the channels of an
    attention head, a channel and its pixels after a flatten, and a row of one weight and the column of the next.
    The groups follow from the index signatures of the operators.  The pruned model computes the same function as the
    model in which every use of a removed channel reads zero.  Some groups always stay, such as groups with a channel of
    an input or output of the model, or of the operand of a layer norm.

    `sparsity` is the share of the groups that is removed.  Instead, `macs`, `params` or `bytes` is a budget: what
    remains of the multiply-adds of one run, of the parameters, or of the bytes of the emitted program, as a share or as
    a number.  `bytes` are those of the largest target that `--emit` names.

    With calibration data, the groups are removed whose removal adds the least expected squared error to the outputs,
    for each multiply-add, parameter or byte that it saves.  The error is measured by the gradients of the outputs,
    without labels.  It takes into account that the weights that stay compensate for removed channels: then the columns
    of linear layers and convolutions are fitted to their original results, layer by layer on the outputs of the pruned
    layers before, and the bias absorbs the mean of the remaining error (Hassibi and Stork 1992, "Second order
    derivatives for network pruning: Optimal Brain Surgeon"; Kurtic et al. 2023, "ZipLM").  Run `fold` before, so that
    convolutions have a bias.  With `scope = "layer"`, each layer loses about the same share of its groups.

    Without data, or with `method = "magnitude"`, the importance of a group is the L2 norm of all its weights (Li et al.
    2017, "Pruning Filters for Efficient ConvNets", with the 2-norm), and the other weights do not change.  With
    `scope = "global"`, the groups of the whole model are ranked together.  For this ranking, the importances of a
    layer's groups are divided by their mean, so that the scale of the layer's weights has no effect.  Layers whose
    results are added have common groups, and count as one layer.  With `"layer"`, each layer loses the same share.

    Widths are rounded to the nearest `multiple`, or, under a budget, to a smaller one: kernels compute whole blocks of
    channels, so a width between two multiples saves little time (`benchmarks.pruned_widths`).  The default is 16, the
    numbers in a vector of 512 bits; a width of 8 is allowed, too.  A layer keeps its width
    if no smaller width is a multiple.  No layer loses its last channel.

    `scheme = "depth"` replaces the layers of residual blocks, such as the attention or the feed-forward network of a
    Transformer, by one linear layer, or one convolution of kernel size 1 for images, with the name `shortcut`.  A block
    maps a value to a value of the same type, and only its result is used outside; it is found from the data flow, so
    names and `block` definitions do not matter.  One layer can replace several consecutive blocks, or the block is
    removed, and its operand is its result.  Norms and activations between blocks that stay also stay, and so do the
    paths of the other layers.

    `macs`, `params` or `bytes` is the budget, as for channels; `prune(0.2, scheme = "depth")` is short for `macs =
    0.8`.  The blocks are replaced whose replacements add the least squared error to the outputs, measured for each of
    them.  The layers are fitted by ridge regression to the original results of the blocks, on the operands that the
    pruned model gives, with the identity as centre; the ridge is chosen by cross-validation.  Calibration data are
    needed, unless the weights are untrained.

    Train for an epoch or two after any scheme.
    """

    preserves = "approximate"
    needs = (UNDIVIDED, FLOAT_WEIGHTS)
    effective_with = {
        "multiple": ("scheme", ("channel",)),
        "scope": ("scheme", ("element", "magnitude", "channel")),
        "pattern": ("scheme", ("element", "magnitude")),
        "storage": ("scheme", ("element", "magnitude")),
    }
    example = 'prune(macs = 0.7, scheme = "channel", keep = "stem")'

    sparsity: float | None = attribute(
        None,
        doc="share of the weights, channel groups, or multiply-adds (`depth`) to remove: from 0 to below 1",
        leading=True,
    )
    pattern: str | None = attribute(
        None, doc='`"2:4"` keeps 2 of each 4 consecutive elements of a row of a weight', keyword=True
    )
    macs: float | None = attribute(
        None,
        doc="multiply-adds of the whole model that remain, as a share up to 1 or a number: channels or layers go",
        keyword=True,
    )
    params: float | None = attribute(None, doc="parameters of the whole model that remain, likewise", keyword=True)
    bytes: float | None = attribute(
        None, doc="bytes of the emitted program that remain, likewise, such as `bytes = 12MB`", keyword=True
    )
    scheme: Literal["element", "channel", "depth", "magnitude"] = attribute(
        "element",
        keyword=True,
        doc="mask single weights (`element`; `magnitude`: by their absolute values), remove channels (`channel`), or "
        "replace residual blocks by single layers (`depth`)",
    )
    method: Literal["sparsegpt", "wanda", "magnitude"] | None = attribute(
        None,
        doc='how weights or channels are chosen: "sparsegpt" and "wanda" mask single weights by the calibration data, '
        '"magnitude" goes by absolute values; default: "sparsegpt", or the error of the outputs for channels, if there '
        "are data",
        keyword=True,
    )
    storage: Literal["masked", "sparse"] = attribute(
        "masked",
        doc='format of pruned weights: "masked" can be trained further, "sparse" makes the file smaller',
        keyword=True,
    )
    scope: Literal["global", "layer"] = attribute(
        "global", keyword=True, doc="rank the weights or groups of the whole model together, or those of each layer"
    )
    on: str | tuple[str, ...] | None = attribute(
        None,
        doc="layers that lose weights or result channels: one glob or several; `kind:linear` selects by operator",
        keyword=True,
    )
    keep: str | tuple[str, ...] | None = attribute(None, doc="layers to exclude", keyword=True)
    multiple: int | None = attribute(
        None,
        keyword=True,
        doc="multiple to which the widths of layers that lose channels are rounded; default: 16, or a width of 8",
    )

    def check(self) -> None:
        self._check_budget()
        if self.sparsity is None and self.pattern is None and self._budget is None:
            raise AttributeProblem(
                "missing-option",
                "`prune` needs `sparsity`, `pattern` or a budget",
                help='write `prune(0.5)`, `prune(pattern = "2:4")`, or `prune(macs = 0.7, scheme = "channel")`',
            )
        if self.pattern is not None and self.scheme in ("channel", "depth"):
            raise AttributeProblem(
                "bad-option", f'`pattern` of `prune` masks single weights, got `scheme = "{self.scheme}"`', "pattern"
            )
        if self.sparsity is not None and self.pattern is not None:
            raise AttributeProblem(
                "conflicting-options",
                "`prune` takes `sparsity` or `pattern`, got both",
                "pattern",
                "remove `pattern`",
            )
        if self.pattern is not None and _kept_pattern(self.pattern) is None:
            raise AttributeProblem(
                "bad-option",
                f"`pattern` of `prune` must be `n:m` with 1 <= n < m, got `{self.pattern}`",
                "pattern",
                'for example `pattern = "2:4"`: 2 of each 4 elements stay',
            )
        allowed: dict[str, tuple[str | None, ...]] = {
            "magnitude": (None, "magnitude"),
            "channel": (None, "magnitude"),
            "depth": (None,),
        }
        if self.method not in allowed.get(self.scheme, (self.method,)):
            raise AttributeProblem(
                "bad-option",
                f'`method = "{self.method}"` of `prune` masks single weights, got `scheme = "{self.scheme}"`',
                "method",
                "remove `scheme`, or remove `method`",
            )
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise AttributeProblem(
                "bad-option", f"`sparsity` of `prune` must be from 0 to below 1, got {self.sparsity}", "sparsity"
            )
        if self.multiple is not None and self.multiple < 1:
            raise AttributeProblem(
                "bad-option", f"`multiple` of `prune` must be at least 1, got {self.multiple}", "multiple"
            )

    def run(self, graph: Graph, context: Context) -> None:
        wanted = select(graph, self.on, self.keep)
        if self.scheme == "depth":
            prune_depth(graph, context, self._budget or ModelBudget("macs", 1 - (self.sparsity or 0)), wanted)
            return
        if self.scheme != "channel":
            self._mask(graph, context, wanted)
            return
        amount: float | ModelBudget | None = self._budget or self.sparsity
        assert amount is not None, "`check` requires one"
        by_data = self.method is None and context.calibration.real
        if self.method is None and not by_data:
            warn_without_data(
                context,
                f"`{self}` ranks channels by the norms of their weights, since there are no calibration data",
                "a smaller error by the effect of each channel",
                'method = "magnitude"',
            )
        prune_channels(graph, context, amount, self.scope, wanted, self.multiple, by_data)

    @property
    def _budget(self) -> ModelBudget | None:
        return model_budget(self.name, self.params, self.macs, self.bytes)

    def _check_budget(self) -> None:
        budget = self._budget
        if budget is None:
            return
        if self.sparsity is not None or self.pattern is not None:
            share = "`sparsity`, the share that is removed," if self.sparsity is not None else "`pattern`"
            raise AttributeProblem(
                "conflicting-options",
                f"`prune` takes {share} or `{budget.measure}`, the amount that remains, got both",
                budget.measure,
                f"remove `{budget.measure}`",
            )
        if self.scheme not in ("channel", "depth"):
            raise AttributeProblem(
                "bad-option",
                f'`{budget.measure}` of `prune` needs `scheme = "channel"` or `"depth"`, got "{self.scheme}"',
                budget.measure,
                f'write `prune({budget.measure} = {budget.amount:g}, scheme = "channel")`: masks keep all of them',
            )

    def _mask(self, graph: Graph, context: Context, wanted: Callable[[str], bool]) -> None:
        """Mask single elements of weights."""
        method = "magnitude" if self.scheme == "magnitude" else self.method
        if method is None and not context.calibration.real:
            method = "magnitude"
            warn_without_data(
                context,
                f"`{self}` masks the smallest weights, since there are no calibration data",
                "a smaller error by SparseGPT",
                'method = "magnitude"',
            )
        goal = self.sparsity if self.pattern is None else _kept_pattern(self.pattern)
        assert goal is not None, "`check` requires one"
        by_data = None if method == "magnitude" else method or "sparsegpt"
        mask_elements(graph, context, ElementPruning(goal, by_data, self.scope), wanted)
        if self.storage == "sparse":
            store_sparse(graph, context, wanted)


def _kept_pattern(text: str) -> KeptPattern | None:
    """Pattern of a text such as `2:4`; None if it is malformed."""
    found = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", text)
    if found is None or int(found[1]) >= int(found[2]):
        return None
    return KeptPattern(int(found[1]), int(found[2]))
