"""Quantization of weights and operands: ranges, grids and solvers."""
