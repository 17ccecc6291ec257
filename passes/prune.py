"""Less of what counts least."""

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
    """Set the smallest weights to zero for good, or remove whole channels.

    With `scheme = "magnitude"` single weights go, those of the smallest absolute value (Han et al. 2015, "Learning
    both Weights and Connections for Efficient Neural Networks").  The text says `weight = masked`, and a mask lies
    beside the weight: what it leaves out is zero, and stays so when the program is trained further.  Weights are
    pruned that products are summed over; biases and norms are not.  With `scope = "global"` one threshold holds
    for all selected layers; with "layer" each loses the same share.  What an earlier `prune` masked counts towards
    the share.  Under a global threshold, a layer that loses more than (1 + sparsity) / 2 of its weights gets a
    warning.  Masks make neither PyTorch nor ONNX Runtime faster, but files compress better.

    With `scheme = "channel"` whole channels go, so that layers become narrower, smaller and faster.  Channels that
    must go together form a group: those of two tensors that are added up, the parts of a head of attention, a channel
    and all its pixels behind a flatten, a row of one weight and the column of the next.  The groups follow from the
    operators' signatures.  What is left computes what the model computed with the channels of the removed groups
    set to zero where they are used.

    A group's importance is the L2 norm of all weights that would go with it (Li et al. 2017, "Pruning Filters for
    Efficient ConvNets", with the 2-norm).  With `scope = "global"` the groups of the whole model compete, each with
    its importance relative to the mean of those that the same layers make; with "layer" each layer loses
    the same share.  Widths are rounded to the nearest `multiple`: kernels compute whole blocks of channels, so a width
    between two multiples saves little time (`benchmarks.pruned_widths`).  A layer keeps its width if no narrower one is
    a multiple.  No layer loses its last channel.  A group stays where removing it would change the function: if
    an input or output of the model has it, or a layer norm.

    Train for an epoch or two after either.
    """

    preserves = "approximate"
    needs = (UNDIVIDED, FLOAT_WEIGHTS)
    effective_with = {"multiple": ("scheme", ("channel",))}
    example = 'prune(0.5, scheme = "channel", keep = "stem")'

    sparsity: float = attribute(doc="the share of the weights, or of the groups, that goes: from 0 to below 1")
    scheme: Literal["magnitude", "channel"] = attribute(
        "magnitude", keyword=True, doc="what goes: single weights, or whole channels"
    )
    scope: Literal["global", "layer"] = attribute(
        "global", keyword=True, doc="whether all of the model compete, or those of each layer"
    )
    on: str | tuple[str, ...] | None = attribute(
        None, doc="the layers whose weights, or whose results' channels, may go: one glob or several", keyword=True
    )
    keep: str | tuple[str, ...] | None = attribute(None, doc="the layers to leave alone", keyword=True)
    multiple: int = attribute(
        8, keyword=True, doc="the widths of layers that lose channels are rounded to multiples of it"
    )

    def check(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise AttributeProblem(
                "bad-option", f"`sparsity` of `prune` must be from 0 to below 1, and is {self.sparsity}", "sparsity"
            )
        if self.multiple < 1:
            raise AttributeProblem(
                "bad-option", f"`multiple` of `prune` must be at least 1, and is {self.multiple}", "multiple"
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
