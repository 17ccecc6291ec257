"""Code generation: `outline` recovers blocks and loops; `torch`, `onnx` and `pipeline` write programs."""
