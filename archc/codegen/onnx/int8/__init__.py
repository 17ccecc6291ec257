"""Quantized models in the form that ONNX Runtime runs with integer kernels."""
