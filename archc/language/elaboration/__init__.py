"""Elaboration of a syntax tree to a graph: instantiate definitions, run statements and look up names."""
