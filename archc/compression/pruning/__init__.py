"""Pruning of elements and channels of weights: patterns, scores, losses and solvers."""
