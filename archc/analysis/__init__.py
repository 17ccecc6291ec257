"""Analyses of a graph: coupled channels, cost, and the stages of a pipeline."""
