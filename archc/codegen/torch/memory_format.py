"""Choice of the channels-last layout for a module's convolutions on the CPU.

oneDNN, the CPU's convolution library, computes in channels-last layout.  For tensors in another layout, it converts the
operand of each convolution to channels-last, and the result back.  A convolution of PyTorch returns its result in the
layout of its weight, so it suffices that `load` converts the weights.  The conversion reduces the time of ResNet-50 to
3/4, and the time of a convolution of one channel to 1/3 (`docs/reference/benchmarks.md`, `memory_format`).  The
conversion changes neither the state dict, nor values or gradients.
"""

from __future__ import annotations

from archc.declaration.traits import PREFERS_CHANNELS_LAST
from archc.ir.graph import Graph
from archc.ir.stages import entered_stage

_IMAGE = 4
"""The rank of tensors that `torch.channels_last` applies to."""


def channels_last(graph: Graph) -> bool:
    """Return whether to load the weights of a model in channels-last layout.

    These models keep the default layout:

    - models with a weight of rank 5, such as the weight of `conv3d`: `load` converts the whole model with `Module.to`,
      which raises an error for such a weight;
    - models with stages, since a stage sends tensors in their memory layout, and the next stage expects the default
      layout;
    - models with a convolution that is not safe in channels-last layout (see `safe`), since other convolutions would
      pass operands in this layout to that convolution.
    """
    if not safe(graph):
        return False
    if any(entered_stage(node.op) is not None for node in graph.nodes()):
        return False
    if any(len(weight.shape) > _IMAGE for weight in graph.weights.values()):
        return False
    return any(node.op.has(PREFERS_CHANNELS_LAST) and node.weights for node in graph.nodes())


def safe(graph: Graph) -> bool:
    """Return whether all convolutions are safe in channels-last layout; see `Operator.safe_channels_last`."""
    convolutions = (node for node in graph.nodes() if node.op.has(PREFERS_CHANNELS_LAST) and node.weights)
    return all(node.op.safe_channels_last(node.types) for node in convolutions)


def image_outputs(graph: Graph) -> tuple[int, ...]:
    """The positions of outputs of rank 4, which `forward` converts to the default layout."""
    outputs = enumerate(graph.outputs.values())
    return tuple(position for position, value in outputs if value.type.rank == _IMAGE)
