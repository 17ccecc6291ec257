"""From a graph to programs: `outline` finds blocks and loops, `torch`, `onnx` and `pipeline` write the targets."""
