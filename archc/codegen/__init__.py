"""From a graph to programs.

`outline` folds the flat graph back into the blocks and loops of `program`, which the PyTorch emitter and the `.arch`
printer share; `torch` and `onnx` write the targets.
"""
