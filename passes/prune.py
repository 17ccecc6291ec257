"""Pass `prune`: set small weights to zero, or remove whole channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from archc.analysis.coupling import Coupling
from archc.ir.graph import Graph
from archc.passmanager import FLOAT_WEIGHTS, UNDIVIDED, Context, Pass, select
from archc.types.attributes import AttributeProblem, attribute

from ._channel_pruning import choose_groups, remark_on_channels, remove_groups
from ._magnitude_pruning import mask_smallest


@dataclass(frozen=True)
class Prune(Pass):
    """Set the smallest weights to zero permanently, or remove whole channels.

    `scheme = "magnitude"` masks the single weights with the smallest absolute values (Han et al. 2015, "Learning both
    Weights and Connections for Efficient Neural Networks").  In the emitted text, the layer has `weight = masked`.  A
    mask is stored with the weight, so masked elements stay zero in further training.  Weights that are contracted with
    data are pruned; biases and norms are not.  With `scope = "global"`, one threshold holds for all selected layers;
    with `"layer"`, each layer loses the same share.  The share includes weights that were masked by an earlier `prune`.
    The pass warns if a global threshold removes more than (1 + sparsity) / 2 of the weights of a layer.  Masks do not
    make PyTorch or ONNX Runtime faster, but the files compress better.

    `scheme = "channel"` removes whole channels, so that layers become narrower, smaller and faster.  Channels that can
    only be removed together form a group.  Examples are channel k of both operands of an addition, the channels of an
    attention head, a channel and its pixels after a flatten, and a row of one weight and the column of the next.
    The groups follow from the index signatures of the operators.  The pruned model computes the same function as the
    model in which every use of a removed channel reads zero.  Some groups always stay, such as groups with a channel of
    an input or output of the model, or of the operand of a layer norm.

    The importance of a group is the L2 norm of all its weights (Li et al. 2017, "Pruning Filters for Efficient
    ConvNets", with the 2-norm).  With `scope = "global"`, the groups of the whole model are ranked together.  For this
    ranking, the importances of a layer's groups are divided by their mean, so that the scale of the layer's weights has
    no effect.  Layers whose results are added have common groups, and count as one layer.  With `"layer"`, each layer
    loses the same share.

    Widths are rounded to the nearest `multiple`: kernels compute whole blocks of channels, so a width between two
    multiples saves little time (`benchmarks.pruned_widths`).  A layer keeps its width if no smaller width is a
    multiple.  No layer loses its last channel.

    Train for an epoch or two after either scheme.
    """

    preserves = "approximate"
    needs = (UNDIVIDED, FLOAT_WEIGHTS)
    effective_with = {"multiple": ("scheme", ("channel",))}
    example = 'prune(0.5, scheme = "channel", keep = "stem")'

    sparsity: float = attribute(doc="share of the weights, or of the channel groups, to remove: from 0 to below 1")
    scheme: Literal["magnitude", "channel"] = attribute(
        "magnitude", keyword=True, doc="mask single weights (`magnitude`) or remove channels (`channel`)"
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
    multiple: int = attribute(
        8, keyword=True, doc="multiple to which the widths of layers that lose channels are rounded"
    )

    def check(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise AttributeProblem(
                "bad-option", f"`sparsity` of `prune` must be from 0 to below 1, got {self.sparsity}", "sparsity"
            )
        if self.multiple < 1:
            raise AttributeProblem(
                "bad-option", f"`multiple` of `prune` must be at least 1, got {self.multiple}", "multiple"
            )

    def run(self, graph: Graph, context: Context) -> None:
        wanted = select(graph, self.on, self.keep)
        if self.scheme == "magnitude":
            mask_smallest(graph, context, self.sparsity, self.scope, wanted)
            return
        coupling = Coupling(graph)
        removed = {group.number for group in choose_groups(coupling, self.sparsity, self.scope, wanted, self.multiple)}
        remark_on_channels(context, coupling, removed, wanted)
        if removed:
            remove_groups(context, coupling, removed)
