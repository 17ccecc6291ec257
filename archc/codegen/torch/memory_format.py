"""Whether a module has the channels of images last in memory.

oneDNN, which convolves on the CPU, computes with channels last, and reorders what each convolution reads and writes
where they are not.  PyTorch keeps the order of a convolution's weight in its result, so that it is enough to order the
weights: `load` does, for the CPU.  ResNet-50 takes three quarters of the time then, a convolution of one channel a
third (`docs/reference/benchmarks.md`, `memory_format`).  Keys, shapes and values are the same, and so are gradients.
"""

from __future__ import annotations

from archc.ir.graph import Graph

_IMAGE = 4
"""The axes of a tensor that `torch.channels_last` is for."""


def channels_last(graph: Graph) -> bool:
    """Return whether to load the weights of a model in channels-last layout.

    It is not used for models with weights of five axes, since `Module.to` converts all or none.  It is not used for
    models in stages either, which send tensors in their memory layout.  A single convolution that is not safe in this
    layout excludes the model, since it would receive images in the layout of the others.
    """
    if not safe(graph):
        return False
    if any(node.op.enters_stage() is not None for node in graph.nodes()):
        return False
    if any(len(weight.shape) > _IMAGE for weight in graph.weights.values()):
        return False
    return any(node.op.torch_channels_last and node.weights for node in graph.nodes())


def safe(graph: Graph) -> bool:
    """Return whether every convolution of a model is safe in channels-last layout."""
    convolutions = (node for node in graph.nodes() if node.op.torch_channels_last and node.weights)
    return all(node.op.safe_channels_last(node.types) for node in convolutions)


def image_outputs(graph: Graph) -> tuple[int, ...]:
    """The positions of the outputs that may have channels last, and that callers had better get in the usual order."""
    outputs = enumerate(graph.outputs.values())
    return tuple(position for position, value in outputs if value.type.rank == _IMAGE)
