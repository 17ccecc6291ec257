"""From a graph to programs.

`outline` folds the flat graph back into the blocks and loops of `program`, which the PyTorch emitter and the `.arch`
printer share; `torch` and `onnx` write the targets.
"""

TARGETS = ("torch", "onnx", "arch")
"""What a model can be written as.  It stands here, where nothing is imported, since `archc compile --help` needs it."""

WEIGHTLESS_TARGETS = ("torch", "arch")
"""Those that can be written without any weights."""
