"""Pruning of single elements of weights: patterns, scores and solvers."""
